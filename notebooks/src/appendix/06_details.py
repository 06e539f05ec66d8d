# ---
# jupyter:
#   vos_tutorial: {}
# ---

# %% [markdown]
# # Appendix to 06: details of STCNN
#
# [← back to 06 STCNN](../06_stcnn_adversarial_training.ipynb)
#
# Cuts and checkerboards of transposed convolutions, the rule that keeps two players close, a mistake in the released code,
# whose network this is, what the motion gate and photographs are worth, and five exercises.

# %% tags=["setup"]
import copy

import torch
import torch.nn.functional as F
from torch import nn

from vos_tutorial import models, profile, recipes, training
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_06
from vos_tutorial.course.figures import tables
from vos_tutorial.data.worlds import sprites
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import dilate
from vos_tutorial.models import official, stcnn
from vos_tutorial.models.frame_prediction import bilinear_kernel
from vos_tutorial.places import downloads

here = profile.current()

# %% [markdown]
# ## A. Maps whose size is not even
#
# A 4×4 transposed convolution of stride 2 makes 2n + 2 rows of n. The page cuts one off each side. But from a frame of 100
# × 134 pixels the encoder makes maps of 50, 25, 13 and 7 rows, so 13 must become 25, and 7 must become 13. The library cuts
# to the size of the encoder's map; where the result is too small, it adds zeros. Both in one call of `pad`, which cuts
# where it is told to add a negative number:


# %% tags=["builds:vos_tutorial.models.frame_prediction.crop_like"]
def crop_like(x, like):
    down, right = (b - a for a, b in zip(x.shape[-2:], like.shape[-2:], strict=True))
    if not (down or right):
        return x
    return F.pad(x, (-(-right // 2), right // 2, -(-down // 2), down // 2))


# %%
six = torch.tensor([[[[1.0, 3.0, 5.0, 7.0, 6.0, 2.0]]]])
for width in (4, 5, 7):
    print(f"6 cells, cut to {width}:", crop_like(six, torch.zeros(1, 1, 1, width)).flatten().tolist())

# %% [markdown]
# Where the difference is odd, one more is cut off on the right, or one more zero is added on the left. This matters only
# when two implementations must agree pixel by pixel, as ours and the authors' do (E).
#
# ## B. Checkerboards
#
# Stamps of 4×4, two cells apart, overlap evenly: each cell of the result gets four of them. But *which* four weights it
# gets depends on whether its row and column are even or odd. So as soon as the weights are not the tent, even a constant
# map comes out with a pattern (Odena et al., 2016). Resizing first and convolving afterwards treats all cells alike. Both
# with random weights, on a map of ones:

# %%
torch.manual_seed(0)
ones = torch.ones(1, 1, 8, 8)
stamps, after = nn.ConvTranspose2d(1, 1, 4, 2, bias=False), nn.Conv2d(1, 1, 3, bias=False)
with torch.no_grad():
    ways = {
        "stamps": stamps(ones)[0, 0, 3:-3, 3:-3],
        "resize, then convolve": after(F.interpolate(ones, scale_factor=2))[0, 0, 1:-1, 1:-1],
    }

# %%
figures.show(
    figures.gallery({name: way / way.abs().max() for name, way in ways.items()}, columns=2, height=1.6),
    "Two maps made of a constant one: stamps leave a regular pattern that repeats every two cells; resizing and convolving leaves a constant.",
    "A constant map, doubled in two ways. The pattern on the left is no edge, but a gradient counts it as one.",
)


# %%
def steepness(x):
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    return float((down**2 + right**2).sqrt().mean())


print({name: round(steepness(way), 3) for name, way in ways.items()})

# %% [markdown]
# So a mean gradient can call a checkerboard *sharp*. STCNN's own generator stamps, and the library's can resize as well:
# `stcnn.build(upsample="resize")`. Both on the same fork, three seeds; sharpness in percent of the true gradient:
#
# | generator | squared error | with a discriminator |
# |---|---|---|
# | stamps | {{results/06_stcnn.json:fork.sharpness.fork + mse.0|.0f}} / {{results/06_stcnn.json:fork.sharpness.fork + mse.1|.0f}} / {{results/06_stcnn.json:fork.sharpness.fork + mse.2|.0f}} | {{results/06_stcnn.json:fork.sharpness.fork + adversarial.0|.0f}} / {{results/06_stcnn.json:fork.sharpness.fork + adversarial.1|.0f}} / {{results/06_stcnn.json:fork.sharpness.fork + adversarial.2|.0f}} |
# | resizes | {{results/06_stcnn.json:fork_resized.sharpness.fork + mse + resized.0|.0f}} / {{results/06_stcnn.json:fork_resized.sharpness.fork + mse + resized.1|.0f}} / {{results/06_stcnn.json:fork_resized.sharpness.fork + mse + resized.2|.0f}} | {{results/06_stcnn.json:fork_resized.sharpness.fork + adversarial + resized.0|.0f}} / {{results/06_stcnn.json:fork_resized.sharpness.fork + adversarial + resized.1|.0f}} / {{results/06_stcnn.json:fork_resized.sharpness.fork + adversarial + resized.2|.0f}} |
#
# With stamps, the discriminator's pictures measure as sharper on each seed; without, on two of three. So part of that gain may
# have been checkerboard: with frequencies above 0.2 cycles per pixel removed, the order of the first row was even reversed
# (measured once). The fork of the page resizes.
#
# What did those networks paint? Their fork was narrower than its object, they got no noise, their discriminator saw one
# frame and no past, and λ was 0.02, twenty times the paper's. <!-- given --> In {{results/06_stcnn.json:fork.clips}} clips each,
# no frame chose a side.
#
# ## C. The margin rule
#
# After each step, look at the discriminator's two errors, on real and on painted frames (log 2 = 0.69 is the error of
# someone who does not know): <!-- given -->
#
# * either below 0.3: the discriminator is too good, and stops learning;
# * either above 0.7: the discriminator does worse than guessing, and the generator stops;
# * both have stopped: both go on.


# %% tags=["variant-of:vos_tutorial.models.stcnn.Balance"]
class MarginRule:
    def __init__(self):
        self.generator = self.discriminator = True

    def update(self, real, fake, margin):
        if min(real, fake) < margin:
            self.discriminator = False
        if max(real, fake) > 1 - margin:
            self.generator = False
        if not (self.generator or self.discriminator):
            self.generator = self.discriminator = True


# %% [markdown]
# On paper first: both learn in the beginning. Who learns after each of these steps?

# %%
rule, balance, players = MarginRule(), stcnn.Balance(), ("generator", "discriminator")
for real, fake in ((0.6, 0.6), (0.5, 0.2), (0.4, 0.4), (0.6, 0.8), (0.2, 0.5)):
    rule.update(real, fake, 0.3)
    balance.update(torch.tensor(real), torch.tensor(fake), 0.3)
    mine, theirs = ([bool(getattr(one, name)) for name in players] for one in (rule, balance))
    who = " and ".join(name for name, learns in zip(players, mine, strict=True) if learns)
    _ = check.equal(f"errors {real} and {fake}: {who}", mine, theirs)

# %% [markdown]
# In the third line the errors are back in the middle, and the discriminator stays stopped: a switch that is off comes on
# again only when *both* are off. A player that has stopped gets no gradient at all, so the optimiser leaves it alone,
# momentum included.
#
# GANs also diverge. What must not happen is that nobody notices. Our loop looks at each loss and gradient, stops, and says
# where the trouble is. We break a discriminator to see it:

# %%
broken = stcnn.build(scaffold=True)
with torch.no_grad():
    broken.discriminator.judge.score.bias.fill_(float("nan"))
options = {"objective": "prediction", "source": "camouflage", "adversarial": 0.1}
stage = recipes.Stage("prediction", steps=2, batch=2, size=32, lr=1e-3, options=options)
plan = recipes.Recipe("stcnn", "smoke", "small", (stage,), source="ours")
try:
    training.train(broken, training.task("stcnn"), plan, progress=False, log_every=1)
except TutorialError as caught:
    print(caught)

# %% [markdown]
# ## D. A zoom in the released code
#
# On the way down, the released code doubles a map and cuts its middle out, at *each* level. But the encoder is dilated, so
# two of the three laterals are *as large as what comes down*. **Predict**: a map of 8 × 8 is doubled, and its middle of 8 ×
# 8 is kept. Where does the cell (2, 2) end up?

# %%
deconv = nn.ConvTranspose2d(1, 1, 4, 2, bias=False)
with torch.no_grad():
    deconv.weight.copy_(bilinear_kernel(4))  # it interpolates
    dot = torch.zeros(1, 1, 8, 8)
    dot[..., 2, 2] = dot[..., 4, 4] = 1
    released, repaired = (stcnn.step_down(deconv, dot, dot, how)[0, 0] for how in ("deconv_crop", "resize"))

# %%
figures.show(
    figures.pixels({"comes down": dot[0, 0], "as released": released, "repaired": repaired}, cell=0.25),
    "A map of eight by eight cells with two ones. As released, both are larger and twice as far apart; one has moved to the upper "
    "left corner. Repaired, both stay, a little blurred.",
    "As released, each step zooms by two into the middle of the picture.",
)

# %% [markdown]
# The cell (2, 2) ends up around (0.5, 0.5): its middle in the doubled map is 2 · 2 + 1.5, and five rows and columns are cut off
# before it. <!-- given --> Most of what the pyramid found is lost, and the rest is in the wrong place. The laterals, the temporal maps and the gates
# are right, so the network works all the same. `top_down="deconv_crop"` is the released path, which the paper-size network
# uses so that its numbers are the authors'; `"resize"` brings the doubled map back to the right size with the same weights,
# and the small networks use it. What does the zoom do to a network that was trained *without* it?

# %%
trained, clip = models.trained("stcnn").eval(), next(sprites.benchmark(1, ["clean"]))
knows = stcnn.fine_tune(trained, clip.frames[0], clip.first_mask, steps=2 if here.is_smoke else 30)
zoomed = copy.deepcopy(knows)
zoomed.decoder.top_down = "deconv_crop"
frames = clip.frames.float() / 255
with torch.no_grad():
    found = [n(frames[4:5], frames[None, :4]).logits[0].sigmoid() for n in (knows, zoomed)]
_ = check.equal("the pyramid's mask is the same", found[0][0], found[1][0])

# %% tags=["run"]
shown = {"frame 4": frames[4], "repaired": found[0][-1], "as released": found[1][-1], "truth": clip.masks[4] > 0}
figures.show(
    figures.gallery(shown, columns=4),
    "A frame; the tuned network's probabilities with the repaired path, a solid object; with the released path, the object with a blurred "
    "outline and faint patches around it; and the true mask.",
    "The same weights, tuned to this object, with both paths.",
)

# %% [markdown]
# A network that is *trained* with the zoom, as the authors' was, learns to live with it. What it costs then we have not
# measured.
#
# ## E. Is it the authors' network?
#
# With their weights it should give their numbers. `load_official` takes the file of any of their three stages:

# %% tags=["run"]
theirs = downloads() / "STCNN_weights.pth"
if theirs.is_file():
    released = official.load_official("stcnn", theirs)
    print(f"loaded {sum(p.numel() for p in released.parameters()):,} parameters")
else:
    print("no STCNN_weights.pth in the data folder; put one of their files there under this name if you have it.")

# %% [markdown]
# We had no released weights. We compared a run of the authors' code with *random* weights against ours with the same
# weights: all features, the painted frame, the five masks of the joint network and of stage 2, the generator with its
# ReLUs, and the discriminator, at a size at which maps are cut and padded. The features agree within 0.4 % of their spread,
# the logits within 0.004, the discriminator within 0.0001; in double precision our own network differs from itself by as
# much. <!-- given -->
#
# ## F. Before there is a past
#
# In frame 1 there is one past frame, and the window needs four. Frame 0 is repeated. In frames 1 to 3 the released code
# lets the window *end with the current frame*, which training never did:

# %%
numbered = torch.arange(6.0)[:, None, None, None].expand(-1, 3, 32, 32) / 5  # frame t has the brightness t / 5
windows = {}
for start in ("past", "released"):
    method, windows[start] = stcnn.segmenter(stcnn.build(), start=start), {}
    method.begin(numbered[0], torch.ones(32, 32, dtype=torch.uint8))
    for t in range(1, 6):
        method.step(numbered[t])
        seen = (5 * method.inspect()["window"][:, 0, 0, 0]).int().tolist()
        windows[start][f"frame {t}"] = " ".join(map(str, seen))
tables.table(windows)

# %% [markdown]
# ## G. What the motion gate is worth
#
# J, {{results/06_stcnn.json:gate.clips}} clips per condition, the shipped network:
#
# | | occlusion | fast motion | distractors |
# |---|---|---|---|
# | untuned, motion gate | {{results/06_stcnn.json:gate_untuned.on.occlusion|.1f}} | {{results/06_stcnn.json:gate_untuned.on.fast_motion|.1f}} | {{results/06_stcnn.json:gate_untuned.on.distractors|.1f}} |
# | untuned, no gate | {{results/06_stcnn.json:gate_untuned.off.occlusion|.1f}} | {{results/06_stcnn.json:gate_untuned.off.fast_motion|.1f}} | {{results/06_stcnn.json:gate_untuned.off.distractors|.1f}} |
# | {{results/06_stcnn.json:online_steps}} steps, motion gate | {{results/06_stcnn.json:gate_tuned.on.occlusion|.1f}} | {{results/06_stcnn.json:gate_tuned.on.fast_motion|.1f}} | {{results/06_stcnn.json:gate_tuned.on.distractors|.1f}} |
# | {{results/06_stcnn.json:online_steps}} steps, no gate | {{results/06_stcnn.json:gate_tuned.off.occlusion|.1f}} | {{results/06_stcnn.json:gate_tuned.off.fast_motion|.1f}} | {{results/06_stcnn.json:gate_tuned.off.distractors|.1f}} |
#
# (Measured again, so within 0.1 of the page.) It helps under occlusion, and costs J where objects are fast, most of all when the network is tuned and finds the object
# without it. With distractors it gains two points, which four clips cannot establish.

# %% [markdown]
# ## H. From ImageNet and photographs
#
# The variant `photos` has an EfficientNet-Lite0 from ImageNet in its spatial half, was trained on shapes cut out of photographs, and is tuned for 120 steps. On the twelve real sequences used to choose these variants (one seed each, all at 240 lines; at the 288 with which it ships, STM has a J&F of {{results/15_photos.json:rows.STM, photos, larger (1800 more, seed 3), enlarged to 288.J&F|.1f}}): <!-- given -->
#
# | | J | F | J&F |
# |---|---|---|---|
# | first mask, copied | {{results/15_photos.json:rows.copy first.J|.1f}} | {{results/15_photos.json:rows.copy first.F|.1f}} | {{results/15_photos.json:rows.copy first.J&F|.1f}} |
# | MaskTrack, photos | {{results/15_photos.json:rows.MaskTrack, photos, calm (400 more), 240.J|.1f}} | {{results/15_photos.json:rows.MaskTrack, photos, calm (400 more), 240.F|.1f}} | {{results/15_photos.json:rows.MaskTrack, photos, calm (400 more), 240.J&F|.1f}} |
# | STM, photos | {{results/15_photos.json:rows.STM, photos, larger (1800 more, seed 3), 240.J|.1f}} | {{results/15_photos.json:rows.STM, photos, larger (1800 more, seed 3), 240.F|.1f}} | {{results/15_photos.json:rows.STM, photos, larger (1800 more, seed 3), 240.J&F|.1f}} |
# | STCNN, photos, tuned | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, 240.J|.1f}} | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, 240.F|.1f}} | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, 240.J&F|.1f}} |
# | the same weights without the generator | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, without the time half, 240.J|.1f}} | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, without the time half, 240.F|.1f}} | {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, without the time half, 240.J&F|.1f}} |
#
# **Without the generator J&F is 1.3 points higher;** before the last stage of the training it was less than half a point lower. So it adds nothing that one seed could show. (Untuned was not measured.) On *car-turn*, one of the twelve, J&F is {{results/15_photos.json:rows.STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, 240.videos.car-turn|.0f}}, MaskTrack's
# {{results/15_photos.json:rows.MaskTrack, photos, calm (400 more), 240.videos.car-turn|.0f}}. On the three sequences of the
# page J is {{results/15_photos.json:rows.STCNN, photos, larger, davis_sample, third freeze.J|.1f}}, and STM's
# {{results/15_photos.json:rows.STM, photos, larger, davis_sample, fourth freeze, 240.J|.1f}} at 240 lines, {{results/15_photos.json:rows.STM, photos, larger, davis_sample, fourth freeze.J|.1f}} at 288.

# %% [markdown] tags=["exercise-text"]
# ## Five more exercises
#
# **Exercise A.1** (10 minutes, medium) *The best picture.* The future forks: K frames may come, future k with chance
# p<sub>k</sub>. Write `best_picture(futures, chances)`, which returns three things: the picture with the least expected
# squared error, that error, and the expected error of someone who paints the likeliest future instead. The error of one
# picture against one future is the mean over the pixels. By hand first: a pixel will be +1 or −1, with equal chance.
#
# <details><summary>Hint</summary>The picture is the sum of chance times future.</details>


# %% tags=["exercise"]
def best_picture(futures, chances):
    """Futures float [K, H, W], chances float [K] with sum 1 -> picture [H, W], its error, the likeliest one's error."""
    # solution
    picture = (chances[:, None, None] * futures).sum(0)
    painted = torch.stack([picture, futures[chances.argmax()]])
    errors = (futures - painted[:, None]).square().mean((2, 3)) @ chances
    return picture, *errors.tolist()
    # end solution


# %% tags=["exercise-check"]
_ = check_06.best_picture(best_picture)


# %% [markdown] tags=["solution-note"]
# Grey, with an error of 1: it misses by 1 whatever happens. Painting +1 is right half of the time, and misses by 2
# otherwise: 4 / 2 = 2. Someone who paints a random future, each with its chance, has exactly twice the least error, because
# the distance of two independent draws is twice the variance.


# %% [markdown] tags=["exercise-text"]
# **Exercise A.2** (10 minutes, easy) *Through the gate.* Give the network perfect masks. What does the motion gate leave of
# them? Write `through_gate(masks, radius)`. Frame 0 is given and kept. Of each later mask, only the pixels pass that lie
# within `radius` of the previous mask *as it was kept*; if that one is empty, everything passes. `dilate(mask, radius)`
# grows a mask. By hand first, in one dimension: a bar of 4 pixels moves by 3 per frame, the radius is 2. How many of its
# pixels are kept in frames 0 to 7?
#
# <details><summary>Hint</summary>Keep a list, and look at its last entry.</details>


# %% tags=["exercise"]
def through_gate(masks, radius):
    """True masks bool [T, H, W], pixels -> what the gate keeps of them, bool [T, H, W]."""
    # solution
    kept = [masks[0]]
    for now in masks[1:]:
        last = kept[-1]
        gate = dilate(last, radius) if last.any() else torch.ones_like(last)
        kept.append(now & gate)
    return torch.stack(kept)
    # end solution


# %% tags=["exercise-check"]
_ = check_06.through_gate(through_gate)


# %% [markdown] tags=["solution-note"]
# 4, 3, 2, 1, 0, 4, 3, 2. Each frame cuts one pixel off the front, because the gate advances by 2 and the bar by 3. And
# because the next gate lies around what was *kept*, the loss adds up. When nothing is left the gate opens, the whole bar
# comes back, and it begins again: a perfect network blinks. Nothing is lost as long as the speed is at most the radius,
# whatever the size.


# %% [markdown] tags=["exercise-text"]
# **Exercise A.3** (15 minutes, hard) *Which rows are read?* For the zoom of D. A transposed convolution of size 4 and
# stride 2 adds input row i to rows 2i to 2i + 3 of its output, whose middle is 2i + 1.5; n rows become 2n + 2. The cut
# keeps n of them, from row (n + 2) // 2 on. Write `rows_read(n, steps)`: which row of the *first* map does row j of the
# result show, after so many steps? Fractions are meant. By hand first: rows 0, 12 and 23 for n = 24 and one step.
#
# <details><summary>Hint</summary>Row j of the cut map is row j + (n + 2) // 2 of the doubled one. Solve for i.</details>


# %% tags=["exercise"]
def rows_read(n, steps):
    """Rows of the map, number of steps -> float [n]: the row of the first map that each row of the last one shows."""
    # solution
    rows = torch.arange(n, dtype=torch.float32)
    for _ in range(steps):
        rows = (rows + (n + 2) // 2 - 1.5) / 2
    return rows
    # end solution


# %% tags=["exercise-check"]
_ = check_06.rows_read(rows_read)


# %% [markdown] tags=["solution-note"]
# Row j is row o = j + 13 of the doubled map, and o = 2i + 1.5 gives i = (j + 11.5) / 2: rows 5.75, 11.75 and 17.25. <!-- given --> One step reads half of the height, the next half of that. After the two steps of the network, the context of
# every place comes from the middle sixteenth of the picture.


# %% [markdown] tags=["exercise-text"]
# **Exercise A.4** (15 minutes, hard) *Names that shift.* The authors' first stage saves a generator that their third stage
# cannot load. PyTorch names the tensors of an `nn.Sequential` by their place. In the generator, `de_layer1` and `de_layer2`
# are: 0 convolution, 1 batch norm, 2 ReLU, 3 deconvolution; `de_layer3` has a last convolution in place 4. In the joint
# network the ReLU is gone, and what follows moves up. Also, the encoder's tensors (`conv1`, `bn1`, `layer1` to `layer4`)
# have the prefix `pred_encoder.` there, and the decoder's (`convC_1` to `convC_3`, `de_layer1` to `de_layer3`)
# `pred_decoder.` Write `joint_names(theirs)`. Note that the encoder's `layer3` has 23 blocks.
#
# <details><summary>Hint</summary>Split each name at its dots, and look at how it <em>begins</em>.</details>


# %% tags=["exercise"]
def joint_names(theirs):
    """The generator's {name: tensor} -> the same tensors under the names of the joint network."""
    # solution
    found = {}
    for name, tensor in theirs.items():
        parts = name.split(".")
        if parts[0].startswith("de_layer") and int(parts[1]) > 2:
            parts[1] = str(int(parts[1]) - 1)
        half = "pred_decoder" if parts[0].startswith(("convC", "de_layer")) else "pred_encoder"
        found[".".join([half, *parts])] = tensor
    return found
    # end solution


# %% tags=["exercise-check"]
_ = check_06.joint_names(joint_names)


# %% [markdown] tags=["solution-note"]
# With prefixes only and `strict=False`, `de_layer1.3.weight` and `de_layer2.3.weight` find no partner and are skipped
# without a word; `de_layer3.3.weight` finds one of another shape, and raises. So load strictly, and list what you leave out
# on purpose. And names are not all: a generator that learned with ReLUs computes another function without them. A map of
# names is right when the *outputs* agree.


# %% [markdown] tags=["exercise-text"]
# **Exercise A.5** (20 minutes, hard) *A steady camera.* A shaking camera moves everything. Steady it: if a frame is the
# previous one, shifted by (down, right) and wrapped around, the sum of `now * before.roll((down, right), (0, 1))` is
# largest at the true shift. The Fourier transform gives that sum for *all* shifts: `torch.fft.ifft2(torch.fft.fft2(now) *
# torch.fft.fft2(before).conj()).real`. Write `displacement(before, now)`, which returns the shift in whole pixels, two
# integers (down, right); up and left are negative. By hand first: the table of the sums is 16 × 16, and its largest number
# is at flat index 207.
#
# <details><summary>Hint</summary><code>divmod</code> by the width; a shift beyond half the size is one backwards.</details>


# %% tags=["exercise"]
def displacement(before, now):
    """Two grey frames float [H, W] -> (down, right), whole pixels, by which the picture has moved since the first."""
    # solution
    height, width = now.shape
    sums = torch.fft.ifft2(torch.fft.fft2(now) * torch.fft.fft2(before).conj()).real
    down, right = divmod(sums.argmax().item(), width)
    return (down + height // 2) % height - height // 2, (right + width // 2) % width - width // 2
    # end solution


# %% tags=["exercise-check"]
_ = check_06.displacement(displacement)


# %% [markdown] tags=["solution-note"]
# 207 = 12 × 16 + 15, so row 12 and column 15, which is 4 up and 1 to the left. The object votes too, with its own motion.
# It loses because it covers the smaller part of the picture. And the trick assumes one shift for the whole picture: a
# camera that turns, zooms or passes near things moves each pixel differently.
