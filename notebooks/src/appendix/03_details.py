# ---
# jupyter:
#   vos_tutorial: {}
# ---

# %% [markdown]
# # Appendix to 03: details of RGMP
#
# [← back to 03 RGMP](../03_rgmp_reference_guidance.ipynb)
#
# What a reader of the authors' code will want to know, and details beyond the main idea: the first convolution, one object alone, scales and
# padding, enlarging, the authors' weights, cost, and the size of the object. With three exercises.

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from vos_tutorial import models, training
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_03
from vos_tutorial.course.figures import tables
from vos_tutorial.data.worlds import sprites
from vos_tutorial.models import rgmp
from vos_tutorial.propagation import propagate, soft_aggregate
from vos_tutorial.recipes import Stage

trained = models.trained("rgmp")

# %% [markdown]
# ## A. The mask goes in first
#
# Why does the mask enter beside the colours, and not at the coarse map? Here are two masks of 4 × 4 pixels, and what is left of them in one coarse cell:

# %%
left, right = torch.zeros(4, 4), torch.zeros(4, 4)
left[:, :2], right[:, 2:] = 1, 1
print(
    "left half:",
    *F.avg_pool2d(left[None], 4).flatten().tolist(),
    " right half:",
    *F.avg_pool2d(right[None], 4).flatten().tolist(),
)

# %% [markdown]
# Which half is covered is gone, and no later layer can bring it back. At full resolution one filter can see an edge of the mask *and* an edge of
# the colours, and how far they are apart. That is what the target stream has to find out.
#
# **Three channels and one make four.** The authors' code has two first convolutions, `conv1` for the colours and `conv1_p` for the mask, and adds the
# results. Take one pixel, and windows of one pixel:

# %%
pixel, covered = torch.tensor([0.2, 0.5, 0.1]), torch.tensor([1.0])
for_colours, for_mask, bias = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5]), 0.1
print("two sums: ", round(float(pixel @ for_colours) + float(covered @ for_mask + bias), 4))
print("one sum:  ", round(float(torch.cat([pixel, covered]) @ torch.cat([for_colours, for_mask])) + bias, 4))

# %% [markdown]
# So two convolutions whose results are added are *one* with four input channels. Only `conv1_p` has a bias, so that is the bias of the whole. In
# exercise A.1 you join real ones. By the same rule the comparison can be cut into the target's channels and the reference's, whose half is computed
# once per clip:

# %%
target, reference, weight = torch.randn(1, 3, 6, 6), torch.randn(1, 3, 6, 6), torch.randn(4, 6, 7, 1)
whole = F.conv2d(torch.cat([target, reference], dim=1), weight, padding=(3, 0))
halves = F.conv2d(target, weight[:, :3], padding=(3, 0)) + F.conv2d(reference, weight[:, 3:], padding=(3, 0))
_ = check.close("whole and halves", halves, whole, atol=1e-5)

# %% [markdown]
# ## B. Maps belong to one object
#
# An early mask has a price. Encode *one* frame with the masks of two objects, and subtract:

# %%
both = next(sprites.benchmark(1, ["multiple_objects"]))
frame = both.frames[4].float() / 255
masks = torch.stack([both.masks[3] == i for i in both.objects[:2]]).float()  # O H W
with torch.no_grad():
    maps = trained.encode(frame.expand(2, -1, -1, -1), masks)
shown = {f"previous mask, object {i}": figures.answer(frame, i * (m > 0), width=220) for i, m in enumerate(masks, 1)}
shown |= {
    f"difference at 1/{s}": (m[0] - m[1]).abs().mean(0) for s, m in zip((2, 16), (maps[0], maps[3]), strict=True)
}
figures.show(
    figures.gallery(shown, height=1.6),
    "A frame with the previous masks of two of its objects, and where the features of both encodings differ: at 1/2 in and around the two "
    "masks, at 1/16 over most of the picture.",
    "At 1/2 only in and around the masks; at 1/16, over most of the picture.",
)

# %% [markdown]
# At paper size with three scales, each object takes a pass through encoder and decoder, and several objects one more for their union:


# %%
def gigaflops(work):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


# %%
with torch.device("meta"):
    paper = rgmp.build("paper")
cost, total = {}, 0.0
for height, width in ((288, 448), (416, 672), (512, 864)):
    with torch.device("meta"):
        f, m = torch.zeros(1, 3, height, width), torch.zeros(1, height, width)
        seen = paper.encode(f, m)
        kept = paper.prepare(seen[-1])
    cost[f"{height} x {width}"] = row = {
        "encode": gigaflops(lambda f=f, m=m: paper.encode(f, m)),
        "reference's half": gigaflops(lambda seen=seen: paper.prepare(seen[-1])),
        "decode": gigaflops(lambda seen=seen, kept=kept: paper.decode(seen, kept)),
    }
    total += row["encode"] + row["decode"]
tables.table(cost, rows="GFLOP", decimals=0)

# %%
for objects in (1, 2, 5):
    passes = objects + (objects > 1)
    print(f"{objects} object(s): {passes} passes, {passes * total / 1000:.1f} TFLOP per frame")

# %% [markdown]
# The decoder is the most expensive part. Every implementation encodes the reference once per clip; its half of the first long
# convolutions is a small share. Five objects cost six times as much as one.
#
# ## C. Several objects, and one alone
#
# Each object gets a pass, and one more pass for their *union*, with all masks together, says where the background is. These answers need not sum to one.
# *Soft aggregation* turns each into *odds*, $q / (1 - q)$, and divides by the sum of the odds. By hand, for one pixel: the objects say 0.9 and 0.8, the
# union 0.9, so the background is 0.1.

# %%
q = torch.tensor([0.1, 0.9, 0.8])  # background, object 1, object 2
odds = q / (1 - q)
print("odds", [round(o, 2) for o in odds.tolist()], " shares", [round(s, 2) for s in (odds / odds.sum()).tolist()])
merged = soft_aggregate(q[1:, None, None], background=q[:1, None, None])[:, 0, 0]
_ = check.close("the library's", merged, odds / odds.sum(), atol=1e-5)

# %% [markdown]
# The shares are fed back, so in the next frame object 2 is told that this pixel is contested. What if we merged *one* object with its own background,
# `q0 = 1 - q`? Does 0.6 stay 0.6?

# %%
p = torch.tensor(0.6)
for t in range(5):
    print(f"frame {t}: {float(p):.3f}")
    p = soft_aggregate(p.reshape(1, 1, 1), background=1 - p.reshape(1, 1, 1))[1, 0, 0]

# %% [markdown]
# No. The odds of the background are the inverse of the object's, so the share is $q^2 / (q^2 + (1-q)^2)$. Every value moves away from 0.5, and since the result is fed
# back, doubt turns into certainty within a few frames, without looking at the picture. So the authors' code skips the aggregation if there is one object, and so do
# we.
#
# ## D. Scales and padding
#
# The authors show each frame to the network three times, at 0.5, 0.75 and 1 times its size, and average the three probabilities. Each size must be a multiple of 32, so frames are padded with black
# on all sides. The rule in their code goes up to the next *larger* multiple, even from a length that is one:
#
# * 480 = 15 · 32 exactly, and still a whole 32 is added: 512.
# * 854 = 26 · 32 + 22. The next larger multiple is 27 · 32 = 864.

# %%
padded = [rgmp.next_larger_multiple(length, 32) for length in (480, 854)]
print("480 x 854 is padded to", padded)
for scale in (0.5, 0.75):
    sides = [round(n * scale) for n in padded]
    print(f"at {scale}: {sides} becomes {[rgmp.next_larger_multiple(n, 32) for n in sides]}")

# %% [markdown]
# It is wasteful, and has to be copied if the numbers should agree. Our small network pads as little as it can and uses one scale; both are options of the segmenter.

# %%
first_object = torch.where(both.first_mask == both.objects[0], both.first_mask, 0)
three_scales = rgmp.segmenter(trained, scales=(0.5, 0.75, 1.0))
p = propagate(three_scales, both.frames[:3], first_object, probabilities=True)
_ = check.shapes(probabilities=(p, "T 2 H W"))

# %% [markdown]
# Do scales help, and what does a hard decision cost at test time? Three networks of the recipe:

# %% tags=["reference"]
switches = tables.stored("03_rgmp", "switches")
rows = {"both": "as it is", "three scales": "three scales", "hard feedback": "hard feedback"}
tables.compare({c: {k: switches[k][c] for k in rows} for c in switches["both"]}, methods=rows)

# %% [markdown]
# Neither makes a difference that three seeds could show, except that three scales cost a few points under occlusion. At 96 pixels the smallest scale has three cells per side. <!-- given -->
#
# ## E. What "twice as large" means
#
# The decoder enlarges maps by bilinear interpolation, and there are two ways to do that. Three samples, enlarged to six:

# %%
samples = torch.tensor([0.0, 6.0, 12.0])[None, None]
for corners in (True, False):
    six = F.interpolate(samples, scale_factor=2, mode="linear", align_corners=corners)
    print(f"align_corners={corners!s:<6}", [round(v, 1) for v in six.flatten().tolist()])

# %% [markdown]
# With `True`, the first and last *samples* stay where they are, and the rest is spread evenly between them. With `False`, samples are centres of pixels, and
# the *outer borders* stay where they are. Both are fine; mixing them up is not. In PyTorch 0.3.1, which the authors used, a line that asks for bilinear enlarging means the first; today the same line
# means the second, without an error. With the random weights of the comparison below, the wrong setting changes probabilities by up to 0.6, and by 0.03 on average. <!-- given --> The paper-size
# network here has `align_corners=True`; the small one, which we train ourselves, `False`.
#
# ## F. Is it the authors' network?
#
# `vos_tutorial.models.official.load_official("rgmp", path)` reads the file that they released, `weights.pth`. We had none, but with the same *random* weights
# the outputs of both programs differ by at most 1.9e-5 over all levels, 5.9e-6 in the probabilities and 7.7e-6 in roll-outs over several frames. <!-- given -->
#
# ## G. What it costs to go back through time
#
# To go back, every step must keep what it computed. How much is kept, for one clip at 96 pixels?


# %%
def kept_for_the_way_back(n):
    task, cpu = training.task("rgmp"), torch.device("cpu")
    stage = Stage("one", steps=1, batch=1, size=96, lr=1e-3, options={"recurrence": n, "max_skip": 2})
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task.loss(trained, task.batch(stage, [7], cpu), stage)[0]  # held until the sizes are noted
        assert loss.requires_grad
    return sum(sizes.values()) / 2**20


# %% tags=["run"]
tables.table({f"N = {n}": {"MiB": kept_for_the_way_back(n)} for n in (1, 2, 3, 4)})

# %% [markdown]
# About the same amount for each step. (The first line holds weights and reference, too.) With the paper's network and a batch of clips, this bounds N.
#
# ## H. Make the object small
#
# The comparison lives on cells of 16 × 16 pixels. What if the object is no larger than one of them? The same {{results/03_rgmp.json:sizes.scenes}} scenes, seen through shorter and longer lenses, one
# network each, the two that ship:

# %% tags=["reference"]
sizes = tables.stored("03_rgmp", "sizes")
figures.show(
    figures.curves(
        sizes["J"],
        "side of the object, pixels (root of its area)",
        "J, percent",
        x=sizes["pixels"],
        ylim=(0, 100),
        spans={"less than one cell": (0, 16)},
    ),
    "J over the size of the object. The two methods are nearly level; both fall below one cell of the coarsest map. For the largest objects "
    "MaskTrack falls again, and RGMP hardly.",
    "Below one cell both fall alike. MaskTrack's coarsest map is at 1/16, too, so this cannot show what comparing in cells costs.",
)

# %% [markdown]
# J of RGMP and MaskTrack: {{results/03_rgmp.json:sizes.J.RGMP.0|.1f}} and {{results/03_rgmp.json:sizes.J.MaskTrack.0|.1f}} at {{results/03_rgmp.json:sizes.pixels.0|.1f}} pixels, {{results/03_rgmp.json:sizes.J.RGMP.2|.1f}} and {{results/03_rgmp.json:sizes.J.MaskTrack.2|.1f}} at {{results/03_rgmp.json:sizes.pixels.2|.1f}},
# {{results/03_rgmp.json:sizes.J.RGMP.4|.1f}} and {{results/03_rgmp.json:sizes.J.MaskTrack.4|.1f}} at {{results/03_rgmp.json:sizes.pixels.4|.1f}}. Only the last distance is large. It is one network each, so take the shape of the curves, not
# their distance.

# %% [markdown] tags=["exercise-text"]
# ## Three more exercises
#
# **Exercise A.1** (5 minutes, easy) Write `join_stem(colour_weight, mask_weight)`: the one weight that does the same as the authors' two first convolutions. Its input is
# red, green, blue, mask, in this order.
#
# <details><summary>Hint</summary>A weight is [channels out, channels in, rows, columns]; the mask is one more channel that comes in.</details>


# %% tags=["exercise"]
def join_stem(colour_weight, mask_weight):
    """Weights float [64, 3, 7, 7] and [64, 1, 7, 7] -> one weight float [64, 4, 7, 7]."""
    # solution
    return torch.cat([colour_weight, mask_weight], dim=1)
    # end solution


# %% tags=["exercise-check"]
_ = check_03.join_stem(join_stem)

# %% [markdown] tags=["solution-note"]
# A convolution sums over its input channels. Whether the sum is taken in one go or in two parts that are added is the same.

# %% [markdown] tags=["exercise-text"]
# **Exercise A.2** (5 minutes, easy) The authors compute a padded length as `n + 32 - n % 32`. Write `padded_size(height, width)` so that it gives their sizes. What does it do to a
# length that is a multiple of 32 already?
#
# <details><summary>Hint</summary>DAVIS's 480 × 854 becomes 512 × 864.</details>


# %% tags=["exercise"]
def padded_size(height, width):
    """Pixels of a frame -> (height, width) after padding, two ints."""
    # solution
    return height + 32 - height % 32, width + 32 - width % 32
    # end solution


# %% tags=["exercise-check"]
_ = check_03.padded_size(padded_size)

# %% [markdown] tags=["solution-note"]
# 480 is 15 × 32 and gets 32 useless rows of black. It looks like a slip, and yet we keep it at paper size: black borders are visible to the
# network, and with others the output would not be the authors'. The least multiple is `-(-n // 32) * 32`, which our small networks use.

# %% [markdown] tags=["exercise-text"]
# **Exercise A.3** (10 minutes, medium) Several objects were segmented one by one, which gives `q[k]` for object k. One more pass, for the union, said
# where there is *no* object: `q0`. Write `aggregate(q, q0)`: the background and the K objects as one distribution. Keep all K + 1 maps in [1e-7, 1 - 1e-7], turn
# each value into odds q / (1 - q), and divide the odds by their sum.
#
# <details><summary>Hint</summary><code>torch.cat([q0[None], q])</code>, <code>clamp</code>, odds, and a sum over axis 0.</details>


# %% tags=["exercise"]
def aggregate(q, q0):
    """Objects float [K, H, W], background float [H, W] -> float [K+1, H, W], background first, summing to one."""
    # solution
    p = torch.cat([q0[None], q]).clamp(1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    return odds / odds.sum(0)
    # end solution


# %% tags=["exercise-check"]
_ = check_03.aggregate(aggregate)

# %% [markdown] tags=["solution-note"]
# With q = (0.9, 0.8) and q0 = 0.1 the odds are 9 and 4 for the objects and 0.111 for the background, so the shares are 0.686, 0.305 and 0.008. <!-- given -->
# *One* object with q0 = 1 - q does not come back as q but as q² / (q² + (1 - q)²): section C.
