# %% [markdown]
# # 01 The task and its metrics
#
# {{pages}} · papers: [Perazzi et al., CVPR 2016](https://openaccess.thecvf.com/content_cvpr_2016/html/Perazzi_A_Benchmark_Dataset_CVPR_2016_paper.html),
# [Pont-Tuset et al., 2017](https://arxiv.org/abs/1704.00675)
#
# Two programs follow the same object through the same video. Which one does it better, and by how much? On this page you build the two
# metrics that the whole field uses, J and F, and use them to score the two simplest methods there are.

# %% tags=["setup"]
import math

import numpy as np
import torch

from vos_tutorial import baselines, metrics, models, profile
from vos_tutorial.clip import ids_to_onehot, object_ids, onehot_to_ids
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_01
from vos_tutorial.course.figures import tables
from vos_tutorial.course.widgets import GradeBench
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark, make_clip
from vos_tutorial.propagation import propagate

here = profile.current()

# %%
*_, walled = benchmark(6, ["occlusion"])  # a clip in which a wall passes
programs = {"copy first": baselines.CopyFirst(), "STM": models.segmenter("stm")}
answers = {name: propagate(p, walled.frames, walled.first_mask) for name, p in programs.items()}
first, second = (100 * metrics.score_objects(walled.masks, a)[0].summary.J.mean for a in answers.values())
figures.show(
    figures.loop(walled, answers, stills=[0, 3, 6, 9, 12]),
    "A clip twice. A pale wall slides over green stripes and hides a pink object, which comes out higher up. In the first, a copy of the "
    "first mask stays where it was, also on the wall. In the second, STM's mask shrinks with the object, is gone behind the wall, and fits it again "
    "afterwards.",
    "The white line is the truth; colour outside it is a mistake. Copy first repeats the mask of frame 0; STM is the network of "
    f"notebook 00. J, the score that you build below, is {first:.0f} % for copy first and {second:.0f} % for STM.",
)

# %% [markdown]
# ## Why you would want it
#
# Here you see which one is better. But a method that looks fine on one clip may fail on the next, and nobody can watch every clip, so
# you need numbers. You also need to know what they measure: in one case, one of the two metrics gives a completely wrong mask a perfect
# score.
#
# ## You will learn
#
# * what a method is given, and what it must return;
# * to compute J (area) and F (outline) yourself, including the cases where a mask is empty;
# * which frames count, and what is averaged over what;
# * which score every method must beat, and what a method has to remember.

# %% [markdown]
# ## Run card
#
# | | |
# |---|---|
# | to read and do | about 105 minutes, of which 35 for the exercises |
# | to run | {{results/run_cards.json:01_task_and_metrics.cpu.cpu_seconds|.0f}} s of CPU time; peak memory {{results/run_cards.json:01_task_and_metrics.cpu.peak_mib|,}} MiB |
# | you need | notebook 00, NumPy slices |
#
# Nothing is downloaded. File formats, palettes and rare cases are in the [appendix](appendix/01_formats.ipynb).
#
# ## Predict
#
# Write down your guesses. The answers are folded into the page at the point where each question is settled.
#
# 1. J is the area that two masks share, divided by the area that they cover together; 1 is perfect. A mask has the right shape and
#    size, 3 × 3 pixels, but lies one pixel too far down and right. What is its J?
# 2. *Copy first* repeats the first mask in all 15 other frames and never looks at the video. What is its mean J, in percent, over our
#    eight clean clips?
# 3. Another method is told the *true* mask of the previous frame, every time. Our {{term:benchmark}} has ten conditions, in which objects
#    hide, jump or bend, for example. What is the mean J of this method in the worst of them?

# %% [markdown]
# ## 1. The task
#
# A method is given the frames of a video, and the masks of frame 0. It must return the masks of the same objects in all other
# frames. Two rules make this hard:
#
# * **Any object.** The mask of frame 0 says what to follow. It may be a kind of thing that never appeared in training.
# * **The same object.** Object 1 stays object 1, even when it passes behind object 2, or comes back after ten frames.
#
# Papers call this {{term:semi-supervised}} video object segmentation. The word describes the video, of which one frame has an
# {{term:annotation}}, and says nothing about training.
#
# The data set on which most papers report this is {{term:DAVIS|davis}}: short real videos with a mask for every frame. Its authors'
# program scores the answers; we call it the [official toolkit](https://github.com/davisvideochallenge/davis2017-evaluation). Its rules
# are the field's rules, so we follow them.
#
# May a method look ahead, at later frames? The task does not forbid it. A method that never does is called {{term:online}}; it can run
# on a camera. All methods of this course are online, and our code makes sure of it: they get the frames one at a time.
#
# ### A mask is a picture of ids
#
# Here is a mask that is small enough to read.

# %%
rows = [
    [0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0],
    [0, 1, 1, 255, 3],
    [0, 0, 255, 3, 3],
    [0, 0, 0, 3, 3],
]
tiny = torch.tensor(rows, dtype=torch.uint8)

# %% [markdown]
# 0 is background, 255 is {{term:void}}, and any other number is an {{term:object id}}. This mask has an object 1 and an object 3;
# perhaps there was an object 2, and it has left. So count the ids that are there, as in exercise 0.1; the library lists them with
# `object_ids(mask)`.
#
# Files hold ids. Networks want one yes-or-no picture for each object, the {{term:one-hot}} form:

# %%
onehot = ids_to_onehot(tiny, object_ids(tiny))
_ = check.shapes(ids=(tiny, "H W"), onehot=(onehot, "O H W"))
figures.show(
    figures.pixels({"ids": tiny, "channel 0: object 1": onehot[0], "channel 1: object 3": onehot[1]}),
    "The mask of ids, and its two channels: the first is one where the ids are 1, the second where they are 3. Void pixels "
    "are zero in both.",
    "One mask in two forms. The list [1, 3] says which object a channel holds.",
)

# %% [markdown]
# On the way back, void is lost: it belongs to no channel and returns as background.

# %%
back = onehot_to_ids(onehot, [1, 3])
print("differs at", (back != tiny).nonzero().tolist())

# %% [markdown]
# One trap is so common that it belongs here. A row of pixels reads `1 1 3 3`. Enlarge it smoothly, as you would a photograph, and
# round:

# %%
row = torch.tensor([1.0, 1.0, 3.0, 3.0]).reshape(1, 1, 1, 4)
for mode in ("bilinear", "nearest-exact"):
    large = torch.nn.functional.interpolate(row, (1, 8), mode=mode).round()
    print(f"{mode:<14}", large.flatten().int().tolist())

# %% [markdown]
# Halfway between object 1 and object 3, an object 2 appears. Ids are names, and names have no average. Resize ids with
# nearest-neighbour interpolation; or blend the one-hot channels, *with one for the background added*, and take the largest channel at
# each pixel.

# %% [markdown]
# ## 2. The area: J
#
# How good is a mask? Compare it with the true one, the {{term:ground truth}} (*the truth*, for short). From here on, a mask belongs
# to *one* object and is `True` where the object is. A small function lets us draw masks as text.


# %%
def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


truth = drawn(".....", ".###.", ".###.", ".###.", ".....")
prediction = np.roll(truth, (1, 1), axis=(0, 1))

# %%
both, either = truth & prediction, truth | prediction
figures.show(
    figures.pixels({"truth": truth, "prediction": prediction, "in both": both, "in either": either}),
    "Four masks of five by five pixels: the truth is a block of three by three, the prediction is the same block one pixel "
    "lower and further right, both share four pixels, and together they cover fourteen.",
    "The prediction of the first question, and the two sets of pixels that J counts.",
)

# %% [markdown]
# Count the pixels that are in both masks, the *intersection*, and those that are in at least one, the *union*. Their ratio is the
# {{term:region similarity}} J, also called IoU (intersection over union):
#
# $$J = \frac{|\,\text{truth} \cap \text{prediction}\,|}{|\,\text{truth} \cup \text{prediction}\,|}$$


# %%
def iou(truth, prediction):
    return int((truth & prediction).sum()) / int((truth | prediction).sum())


print(f"{both.sum()} of {either.sum()}: J = {iou(truth, prediction):.3f}")

# %% [markdown]
# <details><summary>Prediction 1</summary>4 of 14, or 0.286. Less than a third, although the mask has the right shape and is only one
# pixel off.</details>
#
# Small objects suffer most. Take squares of different sizes, and the same slip of one pixel, this time to the right only:

# %%
for side in (3, 9, 27, 81):
    square = np.zeros((100, 100), dtype=bool)
    square[5 : 5 + side, 5 : 5 + side] = True
    print(f"{side:2} pixels wide: J = {iou(square, np.roll(square, 1, axis=1)):.2f}")

# %% [markdown]
# Why not simply count the pixels that are right? Because most of them are background. Predict nothing at all for a square of 9 × 9 pixels
# in a picture of 100 × 100: 9,919 of 10,000 pixels are right, and J is 0.
#
# To get a feel for J, slide a mask off its object:

# %%
picture = make_clip(6, size=160, length=1, split="test")
mask = picture.masks[0].numpy() == 1
slid = {shift: np.roll(mask, shift, axis=1) for shift in (2, 8, 16, 30)}
shown = {f"J = {iou(mask, m):.2f}": figures.answer(picture.frames[0], m, mask, width=300) for m in slid.values()}
figures.show(
    figures.gallery(shown),
    "The same picture four times. A filled mask slides off its object, whose true outline is a white line; the title gives J, from "
    "nearly one to about a third.",
    "Filled: the mask. White line: the truth. At 0.74 the mistake is plain to see, and at 0.30 the two still overlap.",
)

# %% [markdown]
# ### Edge cases
#
# The object is hidden behind a wall, so the truth is empty. The method noticed: its prediction is empty too. What should J be?

# %%
nothing = np.zeros((5, 5), dtype=bool)
try:
    iou(nothing, nothing)
except ZeroDivisionError as error:
    print("ZeroDivisionError:", error)
print("truth empty:", iou(nothing, prediction), "  prediction empty:", iou(truth, nothing))

# %% [markdown]
# Zero divided by zero. The answer was right, so J has to be 1, and DAVIS says so too. If only one of the two is empty, J is 0: a false
# alarm, or a lost object. Here is the function with its last case:


# %% tags=["variant-of:vos_tutorial.metrics.region_similarity"]
def iou(truth, prediction):
    intersection = int((truth & prediction).sum())
    union = int((truth | prediction).sum())
    return intersection / union if union else 1.0


# %%
truths, predictions = np.random.default_rng(0).random((2, 200, 5, 5)) > 0.85
truths[:3] = predictions[:3] = False  # both empty
truths[3], predictions[3] = False, True  # one empty, the other full
mine = [iou(t, p) for t, p in zip(truths, predictions, strict=True)]
_ = check.equal(
    "J of 200 pairs of masks, some of them empty", np.array(mine), metrics.region_similarity(truths, predictions)
)

# %% [markdown]
# Yours agrees with the library. What about void pixels? In the semi-supervised task, DAVIS counts them as background. (The appendix has the
# other rule, in which they do not count.)

# %% [markdown]
# ## 3. The outline: F
#
# Here are a dog and two predictions. One has lost the legs and the tail. The other is the whole dog, one pixel too far to the right.
# Which one would you rather have?

# %%
dog = drawn(
    "......................",
    "...............###....",
    "...............#####..",
    ".#.............#####..",
    ".#.............####...",
    ".#################....",
    *5 * ["..################...."],
    *8 * ["..#..#........#..#...."],
    "......................",
)
legless, shifted = dog.copy(), np.roll(dog, 1, axis=1)
legless[11:19] = False  # the legs
legless[:, 1] = False  # the tail

# %%
large = [mask.repeat(14, 0).repeat(14, 1) for mask in (dog, legless, shifted)]
names = ["the truth", f"without legs: J {iou(dog, legless):.2f}", f"one pixel off: J {iou(dog, shifted):.2f}"]
grey = np.full((*large[0].shape, 3), 150, np.uint8)
drawings = [figures.answer(grey, mask, large[0], fill=0.7) for mask in large]
figures.show(
    figures.gallery(dict(zip(names, drawings, strict=True)), columns=3),
    "Three silhouettes with the outline of the true dog: the dog, with four long thin legs and a tail; the dog with neither legs nor tail; "
    "and the whole dog one pixel further right, whose legs lie beside the outlined ones.",
    "Filled: the mask. White line: the true dog. J prefers the dog without legs.",
)

# %% [markdown]
# It does so by a wide margin: thin legs have few pixels, and moved by one pixel they miss their place altogether. To ask about *shape*,
# look at the outline. The second metric, {{term:boundary accuracy}} F, compares two outlines and asks two questions:
#
# * {{term:precision}}: how much of the predicted outline lies near the true one?
# * {{term:recall}}: how much of the true outline lies near the predicted one?
#
# So we need to say what an outline is, and how near is near.
#
# ### What is an outline?
#
# A pixel is on the boundary if it differs from one of three neighbours: the one to its right, the one below, or the one diagonally
# below to the right. Outside the picture there are no neighbours. The slice `mask[y : y + 2, x : x + 2]` holds the pixel and these
# three neighbours, or fewer at the right and bottom edges.


# %% tags=["variant-of:vos_tutorial.metrics.boundary_map"]
def boundary_map(mask):
    edges = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        edges[y, x] = (mask[y : y + 2, x : x + 2] != mask[y, x]).any()
    return edges


# %% [markdown]
# Four odd cases show what this definition does.

# %%
dot, corner = nothing.copy(), nothing.copy()
dot[2, 2], corner[:2, 3:] = True, True
full = ~nothing
masks = {"(a) lone pixel": dot, "(b) in the corner": corner, "(c) full": full, "not (a)": ~dot}
figures.show(
    figures.pixels(masks, marks={name: boundary_map(m) for name, m in masks.items()}),
    "Four masks with their boundary pixels framed. A lone pixel has a boundary of two by two pixels. The object in the corner has "
    "one only towards the inside of the picture, the full mask has none, and the inverted lone pixel has the same as the lone pixel.",
    "Framed: the boundary.",
)

# %% [markdown]
# * (a) Four: the pixel itself, and the three that see it as their neighbour. The map is shifted by half a pixel towards the top left.
#   That does no harm, because both masks are shifted alike.
# * (b) Four. Where the picture ends, nobody can say whether the object ends, so there is no boundary.
# * (c) None. A mask that fills the picture has no boundary at all.
#
# And a mask has the same boundary as its complement: a boundary does not know which side is the object. Keep this and (c) in mind:
# together they will fool F.
#
# ### How near is near?
#
# Two people who draw the same object differ by a few pixels. DAVIS forgives a distance that grows with the picture, the
# {{term:tolerance}}: eight thousandths of the picture's diagonal, rounded up.


# %% tags=["variant-of:vos_tutorial.metrics.boundary_tolerance"]
def boundary_tolerance(height, width):
    return math.ceil(0.008 * math.sqrt(height**2 + width**2))


# %%
for what, height, width in (("our dog", 20, 22), ("our clips", 96, 96), ("DAVIS", 480, 854)):
    print(f"{what:<9} {height:3} x {width:<3} -> {boundary_tolerance(height, width)} px")

# %% [markdown]
# The tolerance depends on the picture, not on the object, so a small object is forgiven more than a large one. Does F then depend on the
# size of the picture? You measure it in exercise 1.3.
#
# Distance is measured as the crow flies: with a tolerance of 1, the diagonal neighbour, $\sqrt 2$ away, is too far.
#
# ### Precision and recall of an outline
#
# Put a band of that width around one outline, and ask which points of the other one lie inside. Then swap the two.

# %%
figures.show(
    figures.outlines(dog, legless),
    "The outlines of the dog and of the dog without legs, twice. Left: all 56 points of the prediction lie in the band around the "
    "true outline, a thin line. Right: of the 126 points of the true outline, 59 lie outside the band around the predicted one: the legs "
    "without their first row, and the tip of the tail.",
    "Left: everything that was drawn is right. Right: the crosses were not found, the legs and the tip of the tail. (The first row of each "
    "leg is within one pixel of the belly, so it counts as found.) Precision 1.00, recall 0.53.",
)

# %% [markdown]
# Precision and recall become one number by their harmonic mean, which is high only if both are. With $P = 1$ and $R = 0$ an ordinary
# mean would give one half; the harmonic mean gives 0.
#
# $$F = \frac{2PR}{P + R}$$
#
# Now by hand, with pencil and paper: what is F for the masks of the first question, whose J was 0.286? In 5 × 5 pixels the tolerance is 1.

# %%
by_hand = {"truth": truth, "prediction": prediction}
figures.show(
    figures.pixels(by_hand, marks={name: boundary_map(m) for name, m in by_hand.items()}),
    "The block of three by three pixels and the same block one pixel lower and further right, with their boundary pixels framed: twelve "
    "around the truth, in a closed square; seven above and left of the prediction, which ends where the picture ends.",
    "Framed: 12 points of the true outline, 7 of the predicted one.",
)

# %% [markdown]
# All 7 predicted points are on the true outline or right beside it: $P = 7/7$. Of the 12 true points, two are too far away, the
# corners at the top left and at the bottom right: $R = 10/12$. So $F = 2 \cdot 1 \cdot \frac{10}{12} / (1 + \frac{10}{12})$, or 0.91.
# The outline is nearly right, and the area is not.
#
# In code: take the boundary pixels as points, measure all distances between the two sets, and ask for each point whether the nearest one
# of the other set is near enough. If the first outline is empty, the share is 1: no point can be wrong. If only the second is empty, the
# share is 0.


# %%
def share_near(edges, others, radius):
    a, b = np.argwhere(edges), np.argwhere(others)
    if len(a) == 0:
        return 1.0
    if len(b) == 0:
        return 0.0
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)  # points of a, points of b
    return (distance.min(axis=1) <= radius).mean()


# %% tags=["variant-of:vos_tutorial.metrics.boundary_accuracy"]
def boundary_accuracy(truth, prediction):
    true, found = boundary_map(truth), boundary_map(prediction)
    radius = boundary_tolerance(*truth.shape)
    precision, recall = share_near(found, true, radius), share_near(true, found, radius)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


# %%
_ = check.close("F by hand", boundary_accuracy(truth, prediction), 2 * (10 / 12) / (1 + 10 / 12))

# %%
further = np.roll(dog, 2, axis=1)
for name, guess in (("without legs", legless), ("one pixel off", shifted), ("two pixels off", further)):
    print(f"{name:<14} J {iou(dog, guess):.2f}   F {boundary_accuracy(dog, guess):.2f}")

# %% [markdown]
# F does not care about the shift by one pixel: that is within the tolerance here, so F is 1.00. It does see that the legs are gone: nearly
# half of the true outline was not found. At two pixels it sees the shift as well. So the two metrics can disagree about which mask is
# better, because they measure different things. DAVIS reports both, and ranks methods by their mean, J&F.
#
# **One question.** Next comes a blob in a picture of 96 × 96 pixels, where the tolerance is 2. Grow its mask by one pixel on all sides, then
# by two, three and four. J falls a little at each step. What does F do, and why? Guess now: the picture below the next heading shows it.
#
# Is your F right? The library's agrees with the official toolkit frame by frame, so compare with the library, on the small masks, the
# dog, and the blob moved by two pixels:

# %%
blob = next(benchmark(1, ["out_of_view"]))
object_1 = blob.first_mask.numpy() == 1
pairs = [*zip(truths, predictions, strict=True), (dog, legless), (object_1, np.roll(object_1, 2, axis=1))]
theirs = [float(metrics.boundary_accuracy(t, p)) for t, p in pairs]
_ = check.close("F of 202 pairs of masks", [boundary_accuracy(t, p) for t, p in pairs], theirs)

# %% [markdown]
# ### Change a mask yourself
#
# Four sliders turn the truth into a prediction: move it right or down, grow it, hide part of it. J and F update as you drag. (In a page
# without a kernel you see the mask grow.)

# %% tags=["run"]
GradeBench(
    blob.frames[0],
    blob.first_mask,
    alt="A pale blob on green with its true outline, five times. The mask grows by one pixel from picture to picture. J falls by about "
    "0.07 at each step; F stays at 1.00 for two steps, then falls to 0.20, then to 0.00.",
)

# %% [markdown]
# J goes down evenly: 0.93, 0.86, 0.79, 0.74. F stays at 1.00 for one pixel and for two, which is the tolerance here. At three it drops to
# 0.20, and at four it is 0: now the whole outline lies outside the band. F is blind to errors within the tolerance, even when you can
# see them, and falls steeply just beyond it.
#
# Small deviations from these rules move F a lot. We made {{results/01_baselines.json:wrong_f.frames}} coarse predictions of synthetic
# masks, {{results/01_baselines.json:wrong_f.size}} × {{results/01_baselines.json:wrong_f.size}} pixels: the truth averaged over cells of
# {{results/01_baselines.json:wrong_f.cell}} × {{results/01_baselines.json:wrong_f.cell}}. The tolerance is
# {{results/01_baselines.json:wrong_f.tolerance}}. Counting the diagonal neighbour as near (a square instead of a disk) raises F by
# {{results/01_baselines.json:wrong_f.wrong.square.change|.1f}} points on average; rounding the tolerance down changes it by
# {{results/01_baselines.json:wrong_f.wrong.floor.change|+.1f}}. The [appendix](appendix/01_formats.ipynb) has six such deviations. That can
# decide which of two methods looks better. So use one implementation for all: `vos_tutorial.metrics`.
#
# ### The edge cases of F
#
# Three of these four cases are what you would expect.

# %%
cases = {
    "truth empty, prediction empty": (nothing, nothing),
    "truth empty, prediction a block": (nothing, truth),
    "truth a block, prediction empty": (truth, nothing),
    "truth empty, prediction full": (nothing, full),
}
for name, (t, p) in cases.items():
    print(f"{name:<33} J {iou(t, p):.0f}   F {boundary_accuracy(t, p):.0f}")

# %% [markdown]
# The last line is no bug; the official toolkit says the same. A prediction that fills the picture where there is no object could not be more
# wrong, and F calls it perfect: neither mask has a boundary. **Never read F without J.**

# %% [markdown]
# ## 4. From frames to one number
#
# A video has a J for every frame. DAVIS summarises each object's scores over time with three numbers. Take a method that starts well and then
# loses its object:

# %%
series = [0.9, 0.85, 0.8, 0.7, 0.5, 0.45, 0.3, 0.2]
mean, recall, decay = metrics.statistics(series)
print(f"mean {mean:.4f}   recall {recall:.2f}   decay {decay:.4f}")

# %% [markdown]
# * **Mean**: the number that everybody quotes.
# * **Recall**: the share of frames *above* one half. (The frame with exactly 0.5 does not count: four of eight.)
# * **Decay**: the mean of the first quarter of the frames minus the mean of the last. Positive means that it gets worse. Of eight
#   frames, DAVIS takes the first three and the last three, because its quarters overlap (the [appendix](appendix/01_formats.ipynb)
#   shows how): 0.850 - 0.317 = 0.533.
#
# The word *recall* now has two meanings. In F it is a share of an outline, here a share of frames.
#
# ### Which frames count
#
# Not the first: its mask was given. DAVIS leaves out the last frame too. Of six frames, frames 1 to 4 count.

# %% [markdown]
# ### Averaged over objects, not over clips
#
# A method scores 0.9 on a clip with one object, and 0.3 on each object of a clip with three. Its mean J depends on what you average:

# %%
one_object, three_objects = [0.9], [0.3, 0.3, 0.3]
print(f"over clips   {np.mean([np.mean(one_object), np.mean(three_objects)]):.2f}")
print(f"over objects {np.mean(one_object + three_objects):.2f}")

# %% [markdown]
# DAVIS comes in two editions. *DAVIS-2016* merges the whole foreground, say a rider and a horse, into one object. *DAVIS-2017* keeps
# objects separate, and averages over objects. The two can score the same masks very differently. Here a method has
# all outlines right, but has swapped the two objects. `metrics.score_objects` returns one score for each object; its `summary.J.mean` is
# J, averaged over the frames that count.

# %%
pair = torch.zeros(5, 5, dtype=torch.uint8)
pair[1:4, 1], pair[1:4, 3] = 1, 2
still = pair.repeat(4, 1, 1)  # four frames in which nothing moves
swapped = torch.cat([still[:1], still[1:].flip(2)])
for protocol in ("davis2016", "davis2017"):
    print(protocol, {s.object: s.summary.J.mean for s in metrics.score_objects(still, swapped, protocol)})

# %% [markdown]
# A perfect score in one {{term:protocol}}, zero in the other. So a score means little without its protocol: which frames, which objects,
# at which size.

# %% [markdown]
# ## 5. Two baselines
#
# Is a J of 60 good? That depends on what you get for nothing. We compare two methods, our {{term:baselines|baseline}}.
#
# **Copy first.** The simplest method ignores the video. It shows what a method looks like in this course: `begin` gets frame 0 and
# its mask; `step` gets the next frame and returns O+1 probabilities for each pixel, first the background's, then those of the O
# objects.


# %% tags=["variant-of:vos_tutorial.baselines.CopyFirst"]
class CopyFirst:
    def begin(self, frame, mask):
        objects = ids_to_onehot(mask, object_ids(mask))  # O H W
        background = ~objects.any(0, keepdim=True)
        self.probabilities = torch.cat([background, objects]).float()  # O+1 H W

    def step(self, frame):
        return self.probabilities


# %% [markdown]
# `propagate` is the only loop over time in this course. It calls `begin` once, then `step` for every frame, and takes the most
# probable id of each pixel. That is all that *{{term:propagating a mask|propagate}}* means.

# %%
copied = propagate(CopyFirst(), walled.frames, walled.first_mask)
_ = check.shapes(frames=(walled.frames, "T 3 H W"), mask=(walled.first_mask, "H W"), copied=(copied, "T H W"))
_ = check.equal("the first answer of this page", copied, answers["copy first"])

# %% [markdown]
# **Previous truth.** The second baseline copies the true mask of the previous frame, every time. No method could know it, so it is
# an {{term:oracle}}. It shows how far you would get with a perfect mask of the previous frame and no look at the new one.


# %% tags=["builds:vos_tutorial.baselines.copy_previous_truth"]
def copy_previous_truth(masks):
    return torch.cat([masks[:1], masks[:-1]])


# %% [markdown]
# ### The ten conditions
#
# Our benchmark has clean clips, and nine ways to make a clip hard. All nine happen in real video.

# %%
# One clip for each condition: number 1 of the benchmark, or the number given here.
number = {"occlusion": 5, "deformation+scale": 2, "out_of_view": 0, "multiple_objects": 0}
clips = {}
for condition in CONDITIONS:
    n = number.get(condition, 1)
    clips[condition.replace("_", " ")] = list(benchmark(n + 1, [condition]))[n]
figures.show(
    figures.loops(clips),
    "Ten small clips with the objects outlined: clean; a sprite that bends and grows; one that jumps from place to place; "
    "a wall that hides one; a look-alike that passes by; a sprite that changes its texture; light that comes and goes; a sprite "
    "that leaves the picture; a picture that shakes; three objects that overlap.",
    "A clip from each condition. White lines: the true masks. The first still is frame 0.",
)

# %% [markdown]
# ### Your run
#
# Now score both baselines, the class and the function that you just built. Eight clips for each condition make a table:


# %%
def score(clips, method):
    """J and F in percent, averaged over the objects of all clips."""
    found = [s.summary for clip in clips for s in metrics.score_objects(clip.masks, method(clip))]
    return {"J": 100 * np.mean([s.J.mean for s in found]), "F": 100 * np.mean([s.F.mean for s in found])}


methods = {
    "copy first": lambda clip: propagate(CopyFirst(), clip.frames, clip.first_mask),
    "previous truth": lambda clip: copy_previous_truth(clip.masks),
}

# %% tags=["run"]
many = 1 if here.is_smoke else 8
rows = {}
for condition in CONDITIONS:
    some = list(benchmark(many, [condition]))
    yours = {name: score(some, method) for name, method in methods.items()}
    rows[condition.replace("_", " ")] = {f"{name}, {m}": yours[name][m] for m in "JF" for name in methods}
tables.table(rows, notes=f"J and F in percent, averaged over objects; {many} clips for each condition")

# %% [markdown]
# <details><summary>Prediction 2</summary>{{results/01_baselines.json:synthetic.clean.copy_first.J|.1f}} on clean clips. J falls to about a
# quarter within seven frames and stays there: most objects leave only part of their old place.</details>
# <details><summary>Prediction 3</summary>{{results/01_baselines.json:synthetic.fast_motion.copy_previous.J|.1f}}, under fast motion: the
# only mistake of <em>previous truth</em> is to be one frame late, and there one frame is a long way.</details>
#
# * Copying the first mask suffers most where the object disappears, under occlusion and out of view: while the object is away, its copy is a
#   false alarm.
# * *Distractors* and *illumination* have exactly the numbers of *clean*. Their objects have the same shapes and take the same paths; only
#   what is around them, or the light, differs, and neither baseline looks at that. A network does, so a look-alike can fool it.
#
# **Keep both baselines in mind whenever you read a J.** A method at the level of *copy first* has gained nothing, on average, from
# watching the video. A method above *previous truth* knows something that the previous mask alone does not tell: what the new frame shows, or how the object moves.

# %% [markdown]
# ### Real video
#
# DAVIS's licence does not let us show its frames; these are its numbers, for three sequences that we picked.

# %% tags=["reference"]
real = tables.stored("01_baselines", "real")
named = {"copy_first": "copy first", "copy_previous": "previous truth"}
found = {
    sequence: {"frames": row["frames"]} | {f"{name}, {m}": row[key][m] for m in "JF" for key, name in named.items()}
    for sequence, row in real["sequences"].items()
}
tables.table(
    found, notes=f"three sequences of DAVIS-2016 at {real['size']} pixels, J and F in percent, by our metric"
)

# %% [markdown]
# Three sequences are examples, not the benchmark. In *libby*, a small dog, *previous truth* has an F far above its J, probably because the
# tolerance forgives much of a small object's movement. In *car-roundabout* even a copied mask reaches a J of
# {{results/01_baselines.json:real.sequences.car-roundabout.copy_first.J|.0f}}, though its outline fits badly
# (F {{results/01_baselines.json:real.sequences.car-roundabout.copy_first.F|.1f}}). In *motocross-jump* the copied mask keeps a J of only
# {{results/01_baselines.json:real.sequences.motocross-jump.copy_first.J|.0f}}. An average over the three would hide all of this.

# %% [markdown]
# ## 6. Why a video needs memory
#
# Averages also hide *when* a method fails. Here is J over time, averaged over eight clips in which a wall passes in front of the
# object.

# %% tags=["reference"]
curves = tables.stored("01_baselines", "curves", "occlusion")
lines = {"copy first": curves["copy_first"], "previous truth": curves["copy_previous"]}
gone = sum((clip.masks == 0).flatten(1).all(1).int() for clip in benchmark(8, ["occlusion"]))  # T: clips hidden
hidden = (gone > 4).nonzero().flatten().tolist()
figures.show(
    figures.curves(
        lines,
        "frame",
        "J, percent, mean over 8 clips",
        ylim=(0, 105),
        spans={"hidden in most clips": (hidden[0], hidden[-1])},
    ),
    "Two curves over sixteen frames, with frames 4 to 8 shaded. Copy first falls to zero in the middle and comes back to a quarter. "
    "Previous truth falls to 11 in frame 4, rises to 100 in frame 7, falls to 17 in frame 10 and recovers.",
    "Grey: the object is hidden in most of the clips. Why is previous truth bad in frame 4, perfect in frame 7, and bad again "
    "in frame 10?",
)

# %% [markdown]
# <details><summary>Answer</summary>Frame 4 is a false alarm: in most of the clips the object has just vanished, and the previous mask
# still shows it. In frame 7 it is hidden in all clips: the truth is empty, and so was the truth one frame before. Both empty: J is 1. When
# the object comes out, the previous mask is still empty, so there is nothing to copy. And while it comes out bit by bit, each mask is
# smaller than the next.</details>
#
# Here is one of these clips, the one from the top of the page. Watch what happens at the edge of the wall.

# %%
late = copy_previous_truth(walled.masks)
hidden = [t for t in range(len(walled)) if not walled.masks[t].any()]
figures.show(
    figures.loop(walled, {"copy first": copied, "previous truth": late}, stills=[0, 3, 4, 9, 12]),
    "A clip twice. A pale wall slides over green stripes and hides a pink object. In the first, the copied mask stays on the wall. In "
    "the second, the mask is always one frame behind the white outline: it lies on the wall in frame 4, and in frame 9, when the object comes out, nothing is "
    "filled.",
    f"No pixel of the object is visible in frames {hidden[0]} to {hidden[-1]}. When it comes out, the previous mask is empty.",
)

# %% [markdown]
# Suppose a method carries one thing from frame to frame: the previous mask. At the end of the {{term:occlusion}} that mask is empty, if
# the method did everything right. It does not say where the object will come out, what it looks like, or even that there was one. What should be carried instead?
#
# | what is carried | to follow a moving object | what it still knows after an occlusion |
# |---|---|---|
# | nothing but the first mask (*copy first*) | no | only where the object was in frame 0 |
# | the previous mask, as a {{term:guide mask}} (MaskTrack, 02) | yes, if it moves a little per frame | nothing: the mask is empty, or lies on the wall |
# | also the {{term:reference frame}}, frame 0 with its mask (RGMP, 03) | yes | what the object looked like in frame 0 |
# | a state that is updated (RVOS, 04) | yes | whatever the state has kept |
# | a {{term:memory bank}} of past frames with their masks (STM, 05) | yes | what it looked like in every stored frame |
# | network weights fine-tuned on frame 0, and features trained to predict the next frame (STCNN, 06) | yes | whatever the weights have learned |
#
# The next pages work through this table row by row. Each method answers the question *what should be carried?* in its own way, and you
# will see where each answer fails.

# %% [markdown] tags=["exercise-text"]
# ## Exercises
#
# In the first two exercises you write a function: replace the `raise` line and run the check, which recognises the common mistakes. In
# the third you run an experiment, and in the fourth you make an argument. Three more, on one-hot masks, void and decay, are in the [appendix](appendix/01_formats.ipynb).
#
# **Exercise 1.1** (10 minutes, medium) Your `boundary_map` visits every pixel in Python, which is slow. Write
# `fast_boundary_map`, which does the same without a loop.
#
# <details><summary>Hint 1</summary>Compare the mask with itself, moved by one pixel, three times.</details>
# <details><summary>Hint 2</summary><code>mask[:, :-1]</code> holds all pixels that have a right neighbour, and <code>mask[:, 1:]</code>
# those neighbours. Where they differ, <code>edges[:, :-1]</code> becomes true.</details>


# %% tags=["exercise"]
def fast_boundary_map(mask):
    """Pixels that differ from their right, lower or lower right neighbour. Takes and returns bool [H, W]."""
    # solution
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] != mask[1:, :]
    edges[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edges
    # end solution


# %% tags=["exercise-check"]
_ = check_01.fast_boundary_map(fast_boundary_map)

# %% [markdown] tags=["solution-note"]
# Slices never reach outside the picture, so the border needs no special case. `np.roll` would: it joins the last column
# to the first.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.2** (10 minutes, medium) Write `davis_mean(scores)`: the mean J of a whole data set by the rules of DAVIS-2017. `scores`
# holds J of *every* frame, `{clip: {object: [J, J, ...]}}`.
#
# <details><summary>Hint 1</summary>Which frames count? And what is averaged over what?</details>
# <details><summary>Hint 2</summary>First one mean for each object, of <code>values[1:-1]</code>; then one mean over all objects, whichever
# clip they are from.</details>


# %% tags=["exercise"]
def davis_mean(scores):
    """The mean J over all objects of all clips, first and last frames left out."""
    # solution
    means = []
    for objects in scores.values():
        for values in objects.values():
            means.append(np.mean(values[1:-1]))
    return np.mean(means)
    # end solution


# %% tags=["exercise-check"]
_ = check_01.davis_mean(davis_mean)

# %% [markdown] tags=["solution-note"]
# First a mean over the frames of each object, then one over all objects. Pooling all frames would give long clips more weight,
# averaging over clips would give objects in company less.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.3** (10 minutes, easy, experiment) Does a score depend on the size of the picture? `benchmark(8, ["clean"], size)` draws the same
# eight scenes at any size. Guess what happens to J and F of *previous truth* if the size doubles, and doubles again. Then measure
# both with `score`, at 48, 96, 192 and 384 pixels, and explain what you see. (At 384 pixels this takes a few seconds.)
#
# <details><summary>Hint</summary><code>score(list(benchmark(8, ["clean"], 192)), methods["previous truth"])</code>. To explain F, divide
# <code>boundary_tolerance(size, size)</code> by the size.</details>
# <details><summary>Where the answer lies</summary>J is between {{results/01_baselines.json:sizes.192.J|.1f}} and
# {{results/01_baselines.json:sizes.48.J|.1f}} at all four sizes. F falls from {{results/01_baselines.json:sizes.48.F|.0f}} at 48 pixels to
# {{results/01_baselines.json:sizes.96.F|.0f}}, {{results/01_baselines.json:sizes.192.F|.0f}} and {{results/01_baselines.json:sizes.384.F|.0f}}.
# Two things add up. The tolerance is rounded up to whole pixels: it is 1 of 48 and 2 of 96, but only 5 of 384. And an outline is one
# or two pixels thick at any size, so it is relatively thicker in a small picture: with a tolerance of 1/48 of the picture at all sizes, F still falls, to
# {{results/01_baselines.json:sizes.96.F_same_share|.0f}}, {{results/01_baselines.json:sizes.192.F_same_share|.0f}} and
# {{results/01_baselines.json:sizes.384.F_same_share|.0f}}. So bring masks back to full size before you compute F.</details>

# %% [markdown] tags=["solution-note"]
# ```python
# for size in (48, 96, 192, 384):
#     found = score(list(benchmark(8, ["clean"], size)), methods["previous truth"])
#     print(f"{size:3} pixels: J {found['J']:.1f}  F {found['F']:.1f}  tolerance {boundary_tolerance(size, size)}")
# ```
#
# | pixels | J | F | tolerance |
# |---|---|---|---|
# | 48 | {{results/01_baselines.json:sizes.48.J|.1f}} | {{results/01_baselines.json:sizes.48.F|.1f}} | {{results/01_baselines.json:sizes.48.tolerance}} |
# | 96 | {{results/01_baselines.json:sizes.96.J|.1f}} | {{results/01_baselines.json:sizes.96.F|.1f}} | {{results/01_baselines.json:sizes.96.tolerance}} |
# | 192 | {{results/01_baselines.json:sizes.192.J|.1f}} | {{results/01_baselines.json:sizes.192.F|.1f}} | {{results/01_baselines.json:sizes.192.tolerance}} |
# | 384 | {{results/01_baselines.json:sizes.384.J|.1f}} | {{results/01_baselines.json:sizes.384.F|.1f}} | {{results/01_baselines.json:sizes.384.tolerance}} |

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.4** (5 minutes, medium, in words) Two papers evaluate the same method on DAVIS-2017. Paper A reports a J&F of 70, paper B 72.
# Paper B's authors explain that they (a) score all frames, "since every frame is part of the video", (b) reduce masks to half size, "to
# save time", and (c) average over clips, "since a clip is the natural unit". Is paper B's implementation better? Say for each choice which
# way it is likely to push the score, and what you would ask the authors for.
#
# <details><summary>Answer</summary>You cannot tell. (a) pushes up: the first frame was given, so it scores 1. (The last frame counts again
# too. It is, for <em>copy first</em>, a hard one, which takes back a little of the gain.) On our benchmark, <em>copy first</em> gains that
# way, from {{results/01_baselines.json:wrong_protocol.J|.1f}} to {{results/01_baselines.json:wrong_protocol.J_all_frames|.1f}} in J. (b) usually
# pushes F up: in a small picture an outline, at least one pixel thick, is easier to hit. On the
# {{results/01_baselines.json:wrong_f.frames}} coarse predictions of section 3, F rises by
# {{results/01_baselines.json:wrong_f.wrong.half_size.change|.1f}} points. (c) Either way: a clip with many objects then counts as much as
# a clip with one. On our benchmark such clips are harder for <em>copy first</em> (a J of
# {{results/01_baselines.json:synthetic.multiple_objects.copy_first.J|.1f}}, over all conditions
# {{results/01_baselines.json:synthetic.all.copy_first.J|.1f}}) and easier for <em>previous truth</em>
# ({{results/01_baselines.json:synthetic.multiple_objects.copy_previous.J|.1f}}, over all
# {{results/01_baselines.json:synthetic.all.copy_previous.J|.1f}}). Ask for the masks, and score both with one program.</details>

# %% [markdown] tags=["quiz"]
# ## Quiz
#
# **1.** An object is hidden in half of the frames. A method always predicts nothing. What is its J over all frames?
#
# <details><summary>Answer</summary>One half: 1 where the truth is empty, 0 elsewhere. A mean J can hide a method that does
# nothing.</details>
#
# **2.** F is 1 and J is 0. What happened?
#
# <details><summary>Answer</summary>For example, one mask is empty and the other fills the picture: neither has a boundary. Or one
# mask is the other's complement: both have the same boundary.</details>
#
# **3.** Your method beats *copy first* by far and stays just below *previous truth*. What do you know?
#
# <details><summary>Answer</summary>It follows the objects to some degree, but on average its masks are no better than a perfect mask
# that is one frame old. It may still be useful: <em>previous truth</em> is told a true mask in every frame, your method once.</details>
#
# **4.** A method looks at the whole video before it answers. Does it break a rule of the task?
#
# <details><summary>Answer</summary>No. It is not online, so it cannot run on a camera. But it solves the same task, and you would want to
# know that it looked ahead before you compare it with one that did not.</details>

# %% [markdown]
# ## Recap
#
# * J is intersection over union. Both masks empty: 1; one empty: 0.
# * F compares outlines within a tolerance that grows with the picture. No outlines: 1. Never read it without J.
# * DAVIS leaves out the first and the last frame. DAVIS-2017 averages over objects; DAVIS-2016 merges them.
# * *Copy first* is the score to beat. *Previous truth* tells how much one frame of motion costs.
# * After an occlusion the previous mask is empty, if the method was right. What else should be carried?
#
# | name | shape and type | what it is |
# |---|---|---|
# | `frames` | `T 3 H W`, uint8 | the video |
# | `masks` | `T H W`, uint8 | ids: 0 background, 1 to 254 objects, 255 void |
# | one-hot | `O H W`, bool | one channel per object; a list says which |
# | `begin(frame, mask)` | `3 H W`, `H W` | what a method is given |
# | `step(frame)` | `O+1 H W`, float | probabilities, background first |
# | `propagate(...)` | `T H W`, uint8 | the answer |
# | J, F | `T`, float | scores of one object, one for each frame |
#
# **Next.** The first answer: carry the previous mask, and let a network correct it on the new frame.
# [Notebook 02](02_masktrack_refinement.ipynb) builds it. Solutions of the exercises are in a
# [notebook of their own](solutions/01_task_and_metrics.ipynb).

# %% [markdown]
# ## References
#
# * F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung: [A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation](https://openaccess.thecvf.com/content_cvpr_2016/html/Perazzi_A_Benchmark_Dataset_CVPR_2016_paper.html). CVPR 2016. DAVIS-2016; J, F and their statistics.
# * J. Pont-Tuset, F. Perazzi, S. Caelles, P. Arbeláez, A. Sorkine-Hornung, L. Van Gool: [The 2017 DAVIS Challenge on Video Object Segmentation](https://arxiv.org/abs/1704.00675). Several objects.
# * N. Xu and others: [YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark](https://arxiv.org/abs/1809.03327). 2018. Thousands of clips, objects that appear late.
# * D. R. Martin, C. C. Fowlkes, J. Malik: Learning to Detect Natural Image Boundaries Using Local Brightness, Color, and Texture Cues. PAMI 2004. The F-measure for boundaries.
