# %% [markdown]
# # 01 The task and its metrics
#
# **Promise.** After this notebook you know what a method for video object segmentation is given, what it must return,
# and how its answer is graded. You write both grades yourself, J for the area and F for the outline, first on masks
# of five by five pixels, and find out what they do when there is nothing to see. Then you measure the two simplest
# methods there are, and see why a video needs a memory.

# %% [markdown]
# ## Run card
#
# | | |
# |---|---|
# | to read and do | about 75 minutes, with the exercises |
# | to run | {{results/run_cards.json:01_task_and_metrics.cpu.cpu_seconds|.0f}} s of processor time ({{results/run_cards.json:01_task_and_metrics.cpu.cores}} CPU cores), peak memory {{results/run_cards.json:01_task_and_metrics.cpu.peak_mib}} MiB |
# | you need | notebook 00; NumPy slices; no download, no GPU |
# | afterwards you can | 1. read a mask file without losing its ids, 2. compute J and F of a small mask on paper, with every edge case, 3. say which frames and which averages DAVIS uses, 4. name the score that every method must beat, 5. say what has to be remembered through an occlusion |

# %% [markdown]
# ## Set-up

# %% tags=["setup"]
import numpy as np
import torch

from vos_tutorial import metrics, profile
from vos_tutorial.clip import object_ids
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_01

print("ready")

# %% [markdown]
# ## 1. The task in one picture
#
# Here is a generated clip. It has three objects, each with a number, its *id*.

# %%
from vos_tutorial.data.worlds.sprites import benchmark

clip = list(benchmark(8, ["multiple_objects"]))[6]
_ = check.shapes(frames=(clip.frames, "T 3 H W"), masks=(clip.masks, "T H W"))

# %% [markdown]
# A method is *given* all the frames, but the masks of frame 0 only. It must *find* the masks of the same objects in
# all the other frames.

# %%
given = clip.masks.clone()
given[1:] = 0
figures.show(
    figures.contact_sheet(clip.frames, prediction={"given": given, "to find": clip.masks}),
    "Two rows of six frames. In the row 'given' only frame 0 has outlined and numbered objects; in "
    "the row 'to find' every frame has them, with the same numbers.",
)

# %% [markdown]
# Three rules make this the task that papers call *semi-supervised video object segmentation*:
#
# * **Any object.** The mask of frame 0 says what to follow. Nobody says what kind of thing it is, and training has
#   perhaps never shown such a thing.
# * **The same object.** Object 1 stays object 1, also when it passes behind object 2, also when it comes back after
#   ten frames.
# * **Online.** Frames come one after the other. The answer for frame $t$ may use frames $0 \dots t$, and nothing later.
#
# "Semi-supervised" speaks of the video, not of the training: a person has annotated one of its frames.

# %% [markdown]
# ## 2. A mask is a picture of ids
#
# Take a mask small enough to read. Each pixel holds one whole number of eight bits.

# %%
rows = [
    [0, 0, 0, 0, 0],
    [0, 1, 1, 0, 0],
    [0, 1, 1, 255, 3],
    [0, 0, 255, 3, 3],
    [0, 0, 0, 3, 3],
]
tiny = torch.tensor(rows, dtype=torch.uint8)

# %%
figures.show(
    figures.pixels({"ids": tiny}),
    "A mask of five by five pixels with its ids printed: a block of four ones, a corner of five "
    "threes, two pixels of 255 between them, and zeros.",
)

# %% [markdown]
# * 0 is the **background**.
# * 1 to 254 are **objects**. Ids may have gaps: this mask has an object 1 and an object 3. Perhaps there was an object 2
#   and it has left.
# * 255 is **void**: the person who drew the mask could not say. Void is no object.
#
# **Predict.** How many objects does `tiny` have, and what is its largest value?
#
# <details><summary>Answer</summary>Two objects, and the largest value is 255. So neither <code>max()</code> nor the
# number of different values counts objects.</details>
#
# The library asks for the ids in one line. Cells that define something finished, as this one does, hold the same code
# as the library; a test compares them.

# %%
from vos_tutorial.clip import VOID


# %% tags=["builds:vos_tutorial.clip.object_ids"]
def object_ids(mask):
    return [int(i) for i in torch.unique(mask) if int(i) not in (0, VOID)]


# %%
object_ids(tiny)

# %% [markdown]
# ### The palette gives ids their colours
#
# Mask files are PNG pictures with a *palette*: each pixel stores an id, and a table of 256 colours, stored once, says
# how to paint it. DAVIS, the benchmark that you will meet all the time, uses this table:

# %%
from vos_tutorial.clip import davis_palette

for object_id in (0, 1, 2, 3, 4):
    print(object_id, f"{object_id:03b}", davis_palette()[object_id])

# %% [markdown]
# Read the middle column from the right. The last bit of the id switches on red, the next one green, the next one blue;
# the three bits after these add half as much, and so on. So object 3 (binary `011`) is red plus green, a dark yellow. Neighbouring ids get
# colours that are far apart.
#
# The colours are paint, the ids are data. Write `tiny` to a file, and open the file in two ways.

# %%
import tempfile

from PIL import Image

from vos_tutorial.clip import write_mask

with tempfile.TemporaryDirectory() as folder:
    write_mask(f"{folder}/00000.png", tiny)
    file = Image.open(f"{folder}/00000.png")
    print("mode", file.mode, "  row 2 as ids:", np.array(file)[2])
    print("after convert('RGB'), pixel (2, 1):", np.array(file.convert("RGB"))[2, 1])

# %% [markdown]
# **Trap 1.** `convert("RGB")`, or an image reader that does the same unasked, turns ids into paint. Open masks as they
# are, and look at the mode: `P` (palette) or `L` (grey) hold ids.
#
# The pictures in these notebooks use other colours than the files. DAVIS's dark red and dark green look alike to many
# colour-blind readers, and ours do not; outlines and numbers say the same without colour.

# %% [markdown]
# ### Two forms: ids, and one channel per object
#
# Files hold ids. Networks want one yes-or-no picture for each object. The second form is called *one-hot*.

# %%
from vos_tutorial.clip import ids_to_onehot, onehot_to_ids

onehot = ids_to_onehot(tiny, [1, 3])
_ = check.shapes(ids=(tiny, "H W"), onehot=(onehot, "O H W"))

# %%
figures.show(
    figures.pixels({"ids": tiny, "channel 0: object 1": onehot[0], "channel 1: object 3": onehot[1]}),
    "The mask of ids, and its two channels: the first is one where the ids are 1, the second where "
    "they are 3. Void pixels are zero in both.",
)

# %% [markdown]
# A channel's number is not the object's id: channel 1 holds object 3. The list `[1, 3]` is what ties them together, so
# the way back needs it too. **Predict.** Is anything lost on the way there and back?
#
# <details><summary>Answer</summary>Void: it belongs to no channel and comes back as background.</details>

# %%
back = onehot_to_ids(onehot, [1, 3])
print("differs at", (back != tiny).nonzero().tolist())

# %% [markdown]
# ### Never blend ids
#
# Masks are resized all the time. **Predict.** A row of pixels reads `1 1 3 3`. You enlarge it to eight pixels, smoothly,
# as you would a photo, and round. Which ids are in the result?

# %%
import torch.nn.functional as F

row = torch.tensor([1.0, 1.0, 3.0, 3.0]).reshape(1, 1, 1, 4)
smooth = F.interpolate(row, (1, 8), mode="bilinear").round()
nearest = F.interpolate(row, (1, 8), mode="nearest-exact")
print("smooth ", smooth.flatten().int().tolist())
print("nearest", nearest.flatten().int().tolist())

# %% [markdown]
# **Trap 2.** Halfway between object 1 and object 3 there is no object 2. Ids are names, and names have no average. Take
# the nearest pixel, or blend the channels of the one-hot form and ask each pixel which channel is largest.

# %% [markdown]
# ## 3. Region similarity J
#
# How good is a mask? From here on a mask belongs to one object: `True` where the object is. The measures work on NumPy
# arrays; a short function lets us draw them.


# %%
def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


# %%
truth = drawn(
    ".....",
    ".###.",
    ".###.",
    ".###.",
    ".....",
)
prediction = np.roll(truth, (1, 1), axis=(0, 1))

# %%
both, either = truth & prediction, truth | prediction
figures.show(
    figures.pixels({"truth": truth, "prediction": prediction, "in both": both, "in either": either}),
    "Four masks of five by five pixels: the truth is a block of three by three, the prediction is "
    "the same block one pixel lower and further right, both share four pixels, and together they "
    "cover fourteen.",
)

# %% [markdown]
# **Predict.** The prediction has the right shape and is one pixel off, down and to the right. Is it good? Count the pixels
# that are in both masks, the *intersection*, and those in at least one, the *union*. The *region similarity* J is their
# ratio (also called IoU, or the Jaccard index):
#
# $$J = \frac{|\,\text{truth} \cap \text{prediction}\,|}{|\,\text{truth} \cup \text{prediction}\,|}$$


# %%
def iou(truth, prediction):
    intersection = int((truth & prediction).sum())
    union = int((truth | prediction).sum())
    return intersection / union


# %%
print(both.sum(), "of", either.sum())
print(f"J = {iou(truth, prediction):.3f}")

# %% [markdown]
# Less than a third. J is strict with small objects: the same slip of one pixel, now to the right only, costs a large
# object little.

# %%
for side in (3, 9, 27, 81):
    square = np.zeros((100, 100), dtype=bool)
    square[5 : 5 + side, 5 : 5 + side] = True
    print(f"{side:2} pixels wide: J = {iou(square, np.roll(square, 1, axis=1)):.2f}")

# %% [markdown]
# ### What a J looks like
#
# Numbers need faces. Here is the mask of an object, and the same mask moved further and further to the right.

# %%
from vos_tutorial.data.worlds.sprites import make_clip

picture = make_clip(6, size=160, length=1, split="test")
mask = picture.masks[0].numpy() == 1
moved = [np.roll(mask, shift, axis=1) for shift in (2, 8, 16, 30)]

# %%
figures.show(
    figures.gallery({f"J = {iou(mask, m):.2f}": figures.overlay(picture.frames[0], m) for m in moved}),
    "The same picture four times with an outlined mask that slides off its object step by step; the "
    "title gives J, from nearly one to about a third.",
)

# %% [markdown]
# ### Edge cases, one by one
#
# **Predict.** The object is hidden behind a wall: the truth is empty. The method noticed: its prediction is empty too.
# What does `iou` say? What should it say?

# %%
nothing = np.zeros((5, 5), dtype=bool)
try:
    iou(nothing, nothing)
except ZeroDivisionError as error:
    print("ZeroDivisionError:", error)

# %% [markdown]
# Zero by zero. The right answer was given, so the grade must be 1, and DAVIS says so too. And if one of the two is
# empty and the other is not?

# %%
print("truth empty:", iou(nothing, prediction), "  prediction empty:", iou(truth, nothing))

# %% [markdown]
# Both are 0: a false alarm, and an object that was lost. So one case is left to mend. The tag of the next cell says
# that it is a *variant* of the library's function: one frame, not a whole video. A test lets both grade random
# masks.


# %% tags=["variant-of:vos_tutorial.metrics.region_similarity"]
def iou(truth, prediction):
    intersection = int((truth & prediction).sum())
    union = int((truth | prediction).sum())
    return intersection / union if union else 1.0


# %%
rng = np.random.default_rng(0)
truths, predictions = rng.random((2, 200, 5, 5)) > 0.85
mine = [iou(t, p) for t, p in zip(truths, predictions, strict=True)]
_ = check.equal("J of 200 random masks", np.array(mine), metrics.region_similarity(truths, predictions))

# %% [markdown]
# The last edge case is void. The prediction below spills over the truth by a column. If the person who drew the truth
# marked that column as void ("I cannot say whether this belongs to the object"), the spill should cost nothing.
#
# **Predict** both values of J before you run the cell.

# %%
wide = drawn(".....", ".####", ".####", ".####", ".....")
void = drawn("....#", "....#", "....#", "....#", "....#")
print("void is background:", metrics.region_similarity(truth, wide))
print("void does not count:", metrics.region_similarity(truth, wide, void))

# %% [markdown]
# A rule that is easy to get wrong: in the semi-supervised task, which is ours, DAVIS does *not* take void out. It counts
# as background, as in the first line. Only the unsupervised task, where no mask is given, uses the second line. In
# exercise 1.2 you write it.

# %% [markdown]
# ## 4. Boundary accuracy F
#
# ### Why a second grade
#
# A dog, and two predictions. One has lost the legs and the tail. The other is the whole dog, one pixel too far to the
# right. **Predict.** Which one would you rather have, and which one does J prefer?

# %%
dog = drawn(
    ".................",
    "..........###....",
    "..........#####..",
    ".#........#####..",
    ".#############...",
    "..###########....",
    "..###########....",
    "..#..#..#..#.....",
    "..#..#..#..#.....",
    "..#..#..#..#.....",
    ".................",
)

# %%
legless = dog.copy()
legless[7:10] = False
legless[:, 1] = False
shifted = np.roll(dog, 1, axis=1)
print(f"J without legs {iou(dog, legless):.2f}   J one pixel off {iou(dog, shifted):.2f}")

# %%
figures.show(
    figures.gallery({"truth": dog, "without legs": legless, "one pixel off": shifted}, columns=3),
    "Three silhouettes: a dog with four legs and a tail, the same dog with neither legs nor tail, "
    "and the whole dog one pixel further right.",
)

# %% [markdown]
# J counts pixels, and legs have few. To see that something *thin* is missing we have to look at the outline. The second
# grade, F, asks two questions about two outlines:
#
# * **precision**: how much of the predicted outline is near the true one?
# * **recall**: how much of the true outline is near the predicted one?
#
# So we need to say what an outline is, and what "near" is.

# %% [markdown]
# ### The boundary map
#
# A pixel is on the boundary if it differs from one of three neighbours: the one to the right, the one below, or the one
# below and to the right. Outside the picture there are no neighbours.
#
# The slice `mask[y : y + 2, x : x + 2]` holds a pixel and these three, and at the end of the picture it holds fewer,
# by itself.


# %% tags=["variant-of:vos_tutorial.metrics.boundary_map"]
def boundary_map(mask):
    edges = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        here_and_neighbours = mask[y : y + 2, x : x + 2]
        edges[y, x] = (here_and_neighbours != mask[y, x]).any()
    return edges


# %% [markdown]
# **Predict.** A single pixel of foreground in the middle: how many pixels has its boundary?

# %%
dot = drawn(".....", ".....", "..#..", ".....", ".....")
print(boundary_map(dot).sum(), "pixels")

# %%
masks = {"a lone pixel": dot, "a block": truth}
figures.show(
    figures.pixels(masks, marks={name: boundary_map(mask) for name, mask in masks.items()}),
    "Two masks with their boundary pixels framed. The lone pixel has a boundary of two by two "
    "pixels, itself and those to the left, above, and above left. The block's boundary is a ring "
    "that reaches one pixel out at the top and left.",
)

# %% [markdown]
# Four: the pixel itself, and the three that see it as their neighbour. The map lies half a pixel towards the top left.
# This does no harm, since it does so for both masks.
#
# **Predict** the next three. How many boundary pixels have (a) the corner object below, which the picture's border cuts
# off, (b) a mask that fills the whole picture, (c) the background of the block, that is, everything but the block?

# %%
corner = drawn("...##", "...##", ".....", ".....", ".....")
full = np.ones((5, 5), dtype=bool)
print("(a)", boundary_map(corner).sum())
print("(b)", boundary_map(full).sum())
_ = check.equal("(c) the same as the block", boundary_map(~truth), boundary_map(truth))

# %%
masks = {"(a) cut off": corner, "(b) full": full, "(c) not the block": ~truth}
figures.show(
    figures.pixels(masks, marks={name: boundary_map(mask) for name, mask in masks.items()}),
    "Three masks with their boundary framed: the object in the corner has one only towards the "
    "inside of the picture, the full mask has none, the inverted block has the same ring as the "
    "block.",
)

# %% [markdown]
# * (a) Where the picture ends, nobody can say whether the object ends, so there is no boundary.
# * (b) A mask that fills the picture has no boundary at all.
# * (c) A boundary does not know which side is the object. Remember this one: it comes back at the end of this section.

# %% [markdown]
# ### How near is near?
#
# Two people who draw the same object differ by a few pixels. DAVIS forgives a distance that grows with the picture: eight
# thousandths of its diagonal, rounded up.

# %%
import math


# %% tags=["variant-of:vos_tutorial.metrics.boundary_tolerance"]
def boundary_tolerance(height, width):
    return math.ceil(0.008 * math.sqrt(height**2 + width**2))


# %%
for height, width in ((5, 5), (96, 96), (240, 427), (480, 854), (1080, 1920)):
    print(f"{height:4} x {width:<4} -> {boundary_tolerance(height, width):2} px")

# %% [markdown]
# At 480 x 854, the size at which DAVIS is scored, it is 8 pixels. It depends on the picture and not on the object. So
# **F changes with the size of the picture**: scores at 240 rows and at 480 rows cannot be compared, and a method that
# works on small pictures must bring its masks back to full size before it is scored.
#
# Distance is measured as the crow flies: "near" is a disk, not a square. At a tolerance of 1 the diagonal neighbour,
# $\sqrt 2$ away, is too far.

# %%
y, x = np.mgrid[-3:4, -3:4]
disks = {f"within {r}": y**2 + x**2 <= r**2 for r in (1, 2, 3)}
figures.show(
    figures.pixels(disks),
    "Three disks on seven by seven pixels: radius one is a plus of five pixels, radius two a "
    "diamond of thirteen, radius three a rounded shape of twenty-nine.",
)

# %% [markdown]
# ### Precision and recall of an outline
#
# Take the pixels of both boundaries as points, measure all distances between them, and ask for each point of the first
# boundary whether its nearest point of the second is near enough. Two lines care for empty boundaries: who claims
# nothing is not wrong, and nobody is near to nothing.


# %%
def share_near(edges, others, radius):
    a, b = np.argwhere(edges), np.argwhere(others)
    if len(a) == 0:
        return 1.0
    if len(b) == 0:
        return 0.0
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)  # [points of a, points of b]
    return (distance.min(axis=1) <= radius).mean()


# %%
true, found = boundary_map(dog), boundary_map(legless)
print(f"precision {share_near(found, true, 1):.2f}   recall {share_near(true, found, 1):.2f}")

# %% [markdown]
# The dog without legs: all of the outline that it claims is right (precision), but a good part of the true outline is
# missing (recall). F is the harmonic mean of the two, $F = 2PR / (P + R)$. It is high only if both are: with $P = 1$ and $R = 0$ an
# ordinary mean would give one half, and the harmonic mean gives 0.


# %% tags=["variant-of:vos_tutorial.metrics.boundary_accuracy"]
def boundary_accuracy(truth, prediction):
    true, found = boundary_map(truth), boundary_map(prediction)
    radius = boundary_tolerance(*truth.shape)
    precision, recall = share_near(found, true, radius), share_near(true, found, radius)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


# %%
print(f"without legs   J {iou(dog, legless):.2f}   F {boundary_accuracy(dog, legless):.2f}")
print(f"one pixel off  J {iou(dog, shifted):.2f}   F {boundary_accuracy(dog, shifted):.2f}")

# %% [markdown]
# The two grades disagree about which prediction is better. That is the point of having two. DAVIS reports both and ranks
# methods by their mean, J&F.
#
# Is our F right? The library's agrees with the official toolkit frame by frame. Ours should agree with the library on
# anything, so try random masks, which are worse than any dog.

# %%
mine = [boundary_accuracy(t, p) for t, p in zip(truths, predictions, strict=True)]
_ = check.close("F of 200 random masks", np.array(mine), metrics.boundary_accuracy(truths, predictions))

# %%
t, p = clip.masks[:2].numpy() == 1
_ = check.close("F of a real-sized mask", boundary_accuracy(t, p), metrics.boundary_accuracy(t, p))

# %% [markdown]
# Ours is slow, however: it loops over all pixels in Python, and measures every distance.

# %% tags=["run"]
import time

start = time.perf_counter()
boundary_accuracy(t, p)
middle = time.perf_counter()
metrics.boundary_accuracy(clip.masks == 1, clip.masks.roll(1, 0) == 1)
print(f"ours, one frame: {1000 * (middle - start):.0f} ms")
print(f"library, {len(clip)} frames: {1000 * (time.perf_counter() - middle):.1f} ms")

# %% [markdown]
# ### The edge cases of F
#
# **Predict** the four values of F. For the last one, look again at (b) above.
#
# | truth | prediction |
# |---|---|
# | empty | empty |
# | empty | a block |
# | a block | empty |
# | empty | full |

# %%
cases = {
    "empty, empty": (nothing, nothing),
    "empty, block": (nothing, truth),
    "block, empty": (truth, nothing),
    "empty, full": (nothing, full),
}
for name, (t, p) in cases.items():
    print(f"{name:<13} J {iou(t, p):.0f}   F {boundary_accuracy(t, p):.0f}")

# %% [markdown]
# The last line is no bug of ours: the official toolkit says the same. A prediction that fills the picture where
# there is no object is as wrong as can be, and F calls it perfect, because neither mask has a boundary. Never read F without
# J.

# %% [markdown]
# ## 5. What a wrong version costs
#
# These two functions look easy, so they are often written anew, with small liberties. How much does a liberty cost? Try one
# by hand: a square instead of a disk. Two lone pixels, diagonal neighbours:

# %%
a = drawn(".....", ".#...", ".....", ".....", ".....")
b = drawn(".....", ".....", "..#..", ".....", ".....")
offsets = np.argwhere(boundary_map(a))[:, None] - np.argwhere(boundary_map(b))[None]
print(f"disk   {(np.linalg.norm(offsets, axis=2).min(axis=1) <= 1).mean():.2f}")
print(f"square {(np.abs(offsets).max(axis=2).min(axis=1) <= 1).mean():.2f}")

# %% [markdown]
# Now at full size. This *reference* cell prints what `experiments/baselines.py` measured on large generated clips. The
# prediction is the truth averaged over cells of
# {{results/01_baselines.json:wrong_f.cell}} x {{results/01_baselines.json:wrong_f.cell}} pixels and enlarged again, as a
# coarse network would return it.

# %% tags=["reference"]
import json

from vos_tutorial.places import RESULTS

reference = json.loads((RESULTS / "01_baselines.json").read_text())
wrong_f = reference["wrong_f"]
print("{frames} masks, {size} px, tolerance {tolerance} px: J {J:.1f}, F {F:.1f}".format(**wrong_f))
print(f"\n{'change of F, in points':<46}{'mean':>7}{'largest':>9}")
for wrong in wrong_f["wrong"].values():
    print(f"{wrong['what']:<46}{wrong['change']:>+7.1f}{wrong['largest']:>9.1f}")

# %% [markdown]
# *Mean* is over all masks, *largest* is the change of a single one, up or down. The masks are the same in each line, and
# yet F moves by {{results/01_baselines.json:wrong_f.wrong.floor.change|+.1f}} points if the tolerance is rounded down, and by
# {{results/01_baselines.json:wrong_f.wrong.square.change|+.1f}} points if the disk becomes a square. A difference of that size can decide
# which of two methods looks better. So: one implementation, tested against the official one, and used by everybody. In this
# course that is `vos_tutorial.metrics`.

# %% [markdown]
# ## 6. From frames to three numbers
#
# A video has a J for every frame. DAVIS sums up such a series by three numbers. Take a method that starts well and drifts:

# %%
series = [0.9, 0.85, 0.8, 0.7, 0.5, 0.45, 0.3, 0.2]
mean, recall, decay = metrics.statistics(series)
print(f"mean {mean:.4f}   recall {recall:.2f}   decay {decay:.4f}")

# %% [markdown]
# * **Mean**: the number that everybody quotes.
# * **Recall**: the share of frames *above* one half. **Predict**: does the frame with 0.5 count?
#   <details><summary>Answer</summary>No, "above" is strict: four of eight frames.</details>
# * **Decay**: the mean of the first quarter minus the mean of the last. Positive means that it gets worse over time.
#
# The quarters hide a detail. Their borders are found by rounding, and each quarter *includes* both of its borders, so
# neighbouring quarters share a frame.

# %%
borders = np.round(np.linspace(1, len(series), 5) + 1e-10).astype(int) - 1
print("borders", borders.tolist())
first, last = series[borders[0] : borders[1] + 1], series[borders[3] : borders[4] + 1]
print(first, "minus", last, "=", round(np.mean(first) - np.mean(last), 4))

# %%
quarters = {"first quarter": (borders[0], borders[1]), "last quarter": (borders[3], borders[4])}
figures.show(
    figures.curves({"J": series}, "frame", "J", ylim=(0, 1), height=2.4, spans=quarters),
    "A falling curve of J over eight frames. Frames 0 to 2 are shaded as the first quarter, frames "
    "5 to 7 as the last.",
)

# %% [markdown]
# The four quarters have 3, 3, 2 and 3 frames, eleven in all, because frames 2, 4 and 5 belong to two quarters each.
# `np.array_split` shares no frame and gives another decay. The detail has no deep meaning, but without it you do not get the
# numbers of the published tables. You write it in exercise 1.4.

# %% [markdown]
# ## 7. The protocol: what is averaged over what
#
# ### Which frames count
#
# The first frame was given, so it cannot count. DAVIS also leaves out the last one, for an old reason: some early methods gave
# no result for it. What is left of a clip of six frames:

# %%
metrics.scored_frames(6, "davis2017").tolist()

# %% [markdown]
# ### Objects, not clips
#
# DAVIS comes in two editions. *DAVIS-2016* has one mask in each sequence; what belongs to it, a rider and a horse, is merged.
# *DAVIS-2017* tells objects apart and averages over *objects*. **Predict.** A method scores J = 0.9 on a clip with one
# object, and 0.3 on each object of a clip with three. What is its mean J?

# %%
by_clip = {"one object": [0.9], "three objects": [0.3, 0.3, 0.3]}
every_object = [j for clip_scores in by_clip.values() for j in clip_scores]
print(f"over clips   {np.mean([np.mean(scores) for scores in by_clip.values()]):.2f}")
print(f"over objects {np.mean(every_object):.2f}   <- DAVIS-2017")

# %% [markdown]
# The two editions can see the same prediction very differently. Below, a method has the outlines exactly right, and has
# swapped the two objects. **Predict** both scores.

# %%
rows = [
    [0, 0, 0, 0, 0],
    [0, 1, 0, 2, 0],
    [0, 1, 0, 2, 0],
    [0, 1, 0, 2, 0],
    [0, 0, 0, 0, 0],
]
pair = torch.tensor(rows, dtype=torch.uint8)
still = pair.repeat(4, 1, 1)  # four frames in which nothing moves
swapped = still.clone()
swapped[1:] = pair.flip(1)

# %%
for protocol in ("davis2016", "davis2017"):
    scores = metrics.score_objects(still, swapped, protocol)
    print(protocol, {score.object: score.summary.J.mean for score in scores})

# %% [markdown]
# ### A trap in the files
#
# DAVIS-2016 stores its masks as 0 and 255, black and white. **Predict.** What does a program for DAVIS-2017 see in such a
# file?

# %%
black_and_white = tiny.eq(1).to(torch.uint8) * 255
print("as DAVIS-2017 reads it:", object_ids(black_and_white))
print("as DAVIS-2016 reads it:", object_ids((black_and_white != 0).to(torch.uint8)))

# %% [markdown]
# **Trap 3.** 255 means *object* to the one and *void* to the other. The clip silently has no object. That is why our loader
# asks for the year: `DavisFolder(root, year=2016)`.
#
# All differences side by side (Perazzi et al., 2016; Pont-Tuset et al., 2017):
#
# | | DAVIS-2016 | DAVIS-2017 |
# |---|---|---|
# | masks | 0 and 255, one object | ids 1, 2, ... |
# | validation set | 20 sequences | 30 sequences with 61 objects |
# | one row of results is | a sequence | an object |
# | first and last frame | not scored | not scored |
# | grades | J, F, and T (stability over time) | J and F |

# %% [markdown]
# ## 8. Two baselines
#
# A number means little alone. These two yardsticks tell what a score is worth.
#
# ### Copy the first mask
#
# The simplest method never looks at the video. It meets the contract of all methods in this course, three calls: `begin`
# gets frame 0 and its mask, `step` gets the next frame and returns K+1 probabilities for each pixel: the background's, then
# those of the K objects. (`introduce` is for objects that appear later; skip it for now.)


# %% tags=["variant-of:vos_tutorial.baselines.CopyFirst"]
class CopyFirst:
    def __init__(self):
        self.objects = []
        self.probabilities = torch.zeros(0)

    def begin(self, frame, mask):
        self.objects = object_ids(mask)
        objects = ids_to_onehot(mask, self.objects)  # [K, H, W]
        background = ~objects.any(dim=0, keepdim=True)
        self.probabilities = torch.cat([background, objects]).float()  # [K+1, H, W]

    def step(self, frame):
        return self.probabilities

    def introduce(self, frame, mask):
        new = [i for i in object_ids(mask) if i not in self.objects]
        objects = ids_to_onehot(mask, new)
        self.objects += new
        self.probabilities = torch.cat([self.probabilities * ~objects.any(dim=0), objects.float()])


# %% [markdown]
# `propagate` is the only loop over time in this course. It calls `begin` once, then `step` for every frame, and takes the
# most probable id of each pixel.

# %%
from vos_tutorial.propagation import propagate

copied = propagate(CopyFirst(), clip.frames, clip.first_mask)
_ = check.shapes(frames=(clip.frames, "T 3 H W"), mask=(clip.first_mask, "H W"), copied=(copied, "T H W"))

# %%
figures.show(
    figures.contact_sheet(clip, prediction={"copy first": copied}),
    "Six frames in three rows: the truth, in which three objects wander; the copied masks, which "
    "stay where they were; and the errors, misses on one side and false alarms on the other, that "
    "grow from frame to frame.",
)

# %% [markdown]
# ### Copy the previous truth
#
# The second yardstick is told the true mask of the frame before. No method could know it: this is an *oracle*. It says how
# far one would get by knowing everything about the past and not looking at the present.


# %% tags=["builds:vos_tutorial.baselines.copy_previous_truth"]
def copy_previous_truth(masks):
    return torch.cat([masks[:1], masks[:-1]])


# %% [markdown]
# ### Your run
#
# The generated benchmark has ten conditions: clean clips, and clips with one thing, or two, made hard.
#
# **Predict.** (1) Which conditions are hardest for *copy first*? (2) Which one is hardest for *copy previous*? (3) In which
# conditions do both score exactly as on clean clips?


# %%
def score(clips, predict):
    """J of each object of each clip: what `vos_tutorial.evaluation` does, in one line."""
    return [s.summary.J.mean for clip in clips for s in metrics.score_objects(clip.masks, predict(clip))]


# %% tags=["run"]
from vos_tutorial.data.worlds.sprites import CONDITIONS

per_condition = 2 if profile.current().is_smoke else 8
your_run = {}
for condition in CONDITIONS:
    clips = list(benchmark(per_condition, [condition]))
    first = score(clips, lambda clip: propagate(CopyFirst(), clip.frames, clip.first_mask))
    previous = score(clips, lambda clip: copy_previous_truth(clip.masks))
    both = your_run[condition] = 100 * np.mean(first), 100 * np.mean(previous)
    print(f"{condition:<18}" + "J: copy first {:5.1f}   copy previous {:5.1f}".format(*both))

# %% [markdown]
# ### Reference run
#
# The same on all clips of the benchmark, stored with the course. With the profiles `cpu` and `gpu` your numbers should equal
# these.


# %% tags=["reference"]
def print_rows(rows, counted):
    print(f"{'':<18}{counted:>8}    copy first J    F    copy previous J    F")
    for name, row in rows.items():
        numbers = [row[method][measure] for method in ("copy_first", "copy_previous") for measure in "JF"]
        print(f"{name:<18}{row[counted]:>8}" + "{:16.1f}{:5.1f}{:19.1f}{:5.1f}".format(*numbers))


table = reference["synthetic"]
print_rows(table, "objects")

# %% tags=["run"]
if not profile.current().is_smoke:
    stored = {c: (table[c]["copy_first"]["J"], table[c]["copy_previous"]["J"]) for c in CONDITIONS}
    _ = check.close("your run, all conditions", your_run, stored, atol=0.1)

# %% tags=["reference"]
names = {"copy first": "copy_first", "copy previous truth": "copy_previous"}
groups = {c: {name: row[key]["J"] for name, key in names.items()} for c, row in table.items()}
figures.show(
    figures.bars(groups, "J mean, percent", xlim=(0, 100)),
    "Horizontal bars of J for ten conditions and for all of them. Copy first stays low everywhere, "
    "lowest for occlusion and out of view; copy previous truth is about twice as high or more, "
    "except for fast motion.",
)

# %% [markdown]
# 1. *Copy first* suffers most where the object disappears: occlusion
#    ({{results/01_baselines.json:synthetic.occlusion.copy_first.J|.1f}}) and out of view
#    ({{results/01_baselines.json:synthetic.out_of_view.copy_first.J|.1f}}). While the object is away, its copy is a false alarm.
# 2. *Copy previous* suffers most from fast motion
#    ({{results/01_baselines.json:synthetic.fast_motion.copy_previous.J|.1f}}): its one mistake is to be a frame late.
# 3. Look-alikes and changes of light cost them nothing, to the last digit. Neither looks at a single pixel, so nothing that
#    happens to the pixels can fool them. Looking has its price, and a network will pay it. (A change of appearance does not
#    fool them either. Its numbers differ only because its clips are drawn from other random numbers.)

# %%
clean = table["clean"]["copy_first"]
for condition in ("distractors", "illumination"):
    _ = check.equal(f"{condition} against clean", table[condition]["copy_first"], clean)

# %% [markdown]
# A wrong protocol costs here too. If the given frame and the last frame counted, *copy first* would reach
# {{results/01_baselines.json:wrong_protocol.J_all_frames|.1f}} instead of {{results/01_baselines.json:wrong_protocol.J|.1f}} on
# the whole benchmark: in a clip of sixteen frames, one perfect frame is worth several points.

# %% [markdown]
# ### Real video
#
# If you have DAVIS on this machine, the next cell finds it and scores both baselines on it. Neither needs the frames, so only
# masks are read. Without DAVIS the cell says so; to get it, type `python -m vos_tutorial download davis2016` in a terminal
# (see the README for its size and licence).

# %% tags=["run"]
from vos_tutorial.data.davis import DavisFolder, find_davis

root = find_davis(2016)
folder = DavisFolder(root, year=2016) if root else None
print(f"found {len(folder)} sequences" if folder else "No DAVIS here; see the reference run below.")

# %% tags=["run"]
for name in (folder.names if folder else [])[: 1 if profile.current().is_smoke else None]:
    masks = torch.stack([folder.read_mask(path) for path in folder.files(name).masks])
    (first,) = metrics.score_objects(masks, masks[:1].repeat(len(masks), 1, 1), "davis2016")
    (previous,) = metrics.score_objects(masks, copy_previous_truth(masks), "davis2016")
    both = 100 * first.summary.J.mean, 100 * previous.summary.J.mean
    print(f"{name:<18}" + "J: copy first {:5.1f}   copy previous {:5.1f}".format(*both))

# %% tags=["reference"]
real = reference["real"]
print(f"three sequences of DAVIS-2016, reduced to {real['size']} pixels\n")
print_rows(real["sequences"], "frames")

# %% [markdown]
# These are our measurements, by our metric, at the size that the table names; at DAVIS's own size F would differ
# (section 4). The camera keeps the car in the middle of the picture, so even copying scores well. The motorcyclist
# rushes up to the camera and away again, and after a few frames the first mask is of no use. A single average would hide
# this.
#
# **Keep the two numbers in mind** whenever you read a J. A method at the level of *copy first* has followed nothing. And a
# method above *copy previous* does something that exact knowledge of the last mask cannot do alone.

# %% [markdown]
# ## 9. Why a video needs memory
#
# ### Frame by frame
#
# Averages hide *when* a method fails. Here is J over time, on clean clips and on clips in which a wall passes in front of the
# object.

# %% tags=["reference"]
curves = reference["curves"]
lines = {
    "clean: copy first": curves["clean"]["copy_first"],
    "occlusion: copy first": curves["occlusion"]["copy_first"],
    "occlusion: copy previous truth": curves["occlusion"]["copy_previous"],
}
figures.show(
    figures.curves(lines, "frame", "J, percent, mean over clips", ylim=(0, 105)),
    "Three curves over sixteen frames. Copy first on clean clips falls steadily to about a quarter. "
    "On occlusion clips it falls to zero in the middle and comes back low. Copy previous truth "
    "falls, is perfect for some frames, and collapses when the object comes back.",
)

# %% [markdown]
# **Predict.** On the occlusion clips, the last curve rises to 100 in the middle, where nothing can be seen. Why? And why does it
# collapse right after?
#
# <details><summary>Answer</summary>While the object is hidden, the truth is empty, and so is the truth of the frame before: both
# empty, J is 1. When the object comes back, the mask of the frame before is still empty, and there is nothing to
# copy.</details>

# %% [markdown]
# ### One occlusion
#
# Look at a single clip. In these frames the object cannot be seen at all:

# %%
hidden_clip = next(benchmark(1, ["occlusion"]))
hidden = [t for t in range(len(hidden_clip)) if not hidden_clip.masks[t].any()]
print("no pixel visible in frames", hidden)

# %%
late = copy_previous_truth(hidden_clip.masks)
times = [0, hidden[0] - 1, hidden[0], hidden[-1] + 1, hidden[-1] + 2, len(hidden_clip) - 1]
figures.show(
    figures.contact_sheet(hidden_clip, prediction={"copy previous": late}, times=times),
    "Six moments of a clip: the object in the open, half covered by a wall, hidden, coming out on "
    "the other side, and in the open again. The copy of the previous truth is empty when the object "
    "comes out, so all of it is missed.",
)

# %% [markdown]
# Suppose a method carries one thing from frame to frame: the last mask. At the end of the occlusion that mask is empty. It does
# not say where the object will come out, or what it looks like, or even that there was one. What would have to be remembered?
#
# | what is carried | to follow a moving object | after an occlusion |
# |---|---|---|
# | nothing but the first mask (*copy first*) | no | by luck, if the object comes back to its place |
# | the last mask (*copy previous*, and MaskTrack in 02) | yes, a step at a time | no: it is empty |
# | the first frame with its mask (RGMP in 03) | with the last mask, yes | what it looked like, in frame 0 |
# | a state that is updated (RVOS in 04) | yes | if the state has kept it |
# | many past frames with their masks (STM in 05) | yes | what it looked like, in any of them |
#
# That table is the plot of the next notebooks. Each method answers the question *what should be carried from frame to frame?*
# in its own way, and each answer fails somewhere.

# %% [markdown]
# ### Play it
#
# Here is the whole clip. The strip under the slider shows J for every frame. Switch **View** between the truth, the copies and
# their errors. Find the frame in which *copy previous truth* loses everything.

# %% tags=["run"]
from vos_tutorial.course.widgets import MaskPlayer

stuck = propagate(CopyFirst(), hidden_clip.frames, hidden_clip.first_mask)
copies = {"copy first": stuck, "copy previous truth": late}
MaskPlayer(hidden_clip, pred=copies, alt="A wall hides an object; the masks of both baselines")

# %% [markdown]
# The same as still pictures:

# %%
figures.show(
    figures.contact_sheet(hidden_clip, prediction={"copy first": stuck}, columns=8),
    "Eight frames of the occlusion clip: the truth, the first mask copied to each frame, and the "
    "errors. While the object is hidden, the whole copy is a false alarm; afterwards it overlaps "
    "the object only in part.",
)

# %% [markdown] tags=["exercise-text"]
# ## Exercises
#
# Five functions, from easy to hard. Replace the line that raises, run the cell, then run its check. The checks know the usual
# mistakes and say which one you made.
#
# **Exercise 1.1** (5 minutes) Write `one_hot(mask)`: ids to one channel per object, in ascending order of id. Mind the gaps
# and void.


# %% tags=["exercise"]
def one_hot(mask):
    """Ids uint8 [H, W] -> bool [O, H, W], one channel for each object in the mask."""
    # solution
    return torch.stack([mask == object_id for object_id in object_ids(mask)])
    # end solution


# %% tags=["exercise-check"]
_ = check_01.one_hot(one_hot)

# %% [markdown] tags=["solution-note"]
# `object_ids` leaves out background, void and the ids in the gaps. Comparing the mask with one id gives the channel.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.2** (5 minutes) Write `iou_with_void(truth, prediction, void)`: J of one frame, in which void pixels count for
# nothing. If there is nothing to count, J is 1.


# %% tags=["exercise"]
def iou_with_void(truth, prediction, void):
    """J of two masks; all three arguments are bool [H, W]."""
    # solution
    intersection = int((truth & prediction & ~void).sum())
    union = int(((truth | prediction) & ~void).sum())
    return intersection / union if union else 1.0
    # end solution


# %% tags=["exercise-check"]
_ = check_01.iou_with_void(iou_with_void)

# %% [markdown] tags=["solution-note"]
# Void leaves both the intersection and the union. Whatever is predicted there changes nothing.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.3** (10 minutes) Write `boundary_map(mask)` without a loop over pixels. Compare the mask with itself, moved by one
# pixel, three times: `mask[:, :-1]` holds all pixels that have a right neighbour, and `mask[:, 1:]` holds those neighbours.


# %% tags=["exercise"]
def boundary_map(mask):
    """Pixels that differ from their right, lower or lower right neighbour; bool [H, W] both ways."""
    # solution
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] != mask[1:, :]
    edges[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edges
    # end solution


# %% tags=["exercise-check"]
_ = check_01.boundary_map(boundary_map)

# %% [markdown] tags=["solution-note"]
# Slices never reach outside the picture, so the border needs no special case. `np.roll` would: it joins the last column
# to the first.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.4** (10 minutes) Write `decay(values)`: the mean of the first quarter minus the mean of the last. Section 6 has
# the borders; both ends of a quarter belong to it.


# %% tags=["exercise"]
def decay(values):
    """The decay of a list of J (or F), one value a scored frame, as DAVIS computes it."""
    # solution
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first = values[borders[0] : borders[1] + 1]
    last = values[borders[3] : borders[4] + 1]
    return np.mean(first) - np.mean(last)
    # end solution


# %% tags=["exercise-check"]
_ = check_01.decay(decay)

# %% [markdown] tags=["solution-note"]
# The `+ 1` makes the slice include its last border. The tiny `1e-10` makes halves round up; NumPy would otherwise round them to
# the even neighbour.

# %% [markdown] tags=["exercise-text"]
# **Exercise 1.5** (10 minutes) Write `davis_mean(scores)`: the mean J of a whole data set by the rules of DAVIS-2017. `scores`
# holds J of *every* frame, `{clip: {object: [J, J, ...]}}`. Which frames count, and what is averaged over what?


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
# averaging clips would give objects in company less.

# %% [markdown] tags=["quiz"]
# ## Quiz
#
# **1.** A mask file has the values 0 and 255 only. How many objects does it hold?
#
# <details><summary>Answer</summary>It depends on the data set: one in DAVIS-2016, where 255 is the object; none in DAVIS-2017,
# where 255 is void.</details>
#
# **2.** A method works at half the size and is scored at half the size. Which of J and F is affected more, and why?
#
# <details><summary>Answer</summary>F: its tolerance is rounded up to whole pixels of the picture that is scored, and details of the
# outline vanish. J is a ratio of areas and changes little. Scale the masks up first.</details>
#
# **3.** An object is hidden in half of the frames. A method always predicts nothing. What is its J over all frames?
#
# <details><summary>Answer</summary>One half: 1 where the truth is empty, 0 elsewhere. A mean J can hide a method that does
# nothing.</details>
#
# **4.** F is 1 and J is 0. What happened?
#
# <details><summary>Answer</summary>For example, one mask is empty and the other fills the picture: both have no boundary. Or one
# mask is the other's complement: both have the same boundary.</details>
#
# **5.** Your method beats *copy first* by far and stays just below *copy previous*. What do you know?
#
# <details><summary>Answer</summary>It follows the objects to some degree, but on average its masks are no better than a perfect mask
# that is one frame old. It could still be useful: the oracle is told the truth in each frame, your method once.</details>

# %% [markdown]
# ## Recap
#
# | name | shape and type | what it is |
# |---|---|---|
# | `frames` | `T 3 H W`, uint8 | the video |
# | `masks` | `T H W`, uint8 | ids: 0 background, 1 to 254 objects, 255 void |
# | one-hot | `O H W`, bool | one channel per object; a list says which |
# | `begin(frame, mask)` | `3 H W`, `H W` | what a method is given |
# | `step(frame)` | `K+1 H W`, float | probabilities, background first |
# | `propagate(...)` | `T H W`, uint8 | the answer |
# | J, F | `T`, float | grades of one object, one for each frame |
#
# * J is intersection over union. Both masks empty: 1; one empty: 0.
# * F compares boundaries within a disk whose radius grows with the picture: its diagonal times 0.008, rounded up. No boundaries: 1.
# * DAVIS drops the first and the last frame, and averages over objects.
# * *Copy first* is the score to beat. *Copy previous truth* says how far one step of motion matters.
# * After an occlusion the last mask is empty. What else should be carried? The first answer is in
#   notebook 02: the last mask, and a network that mends it.

# %% [markdown]
# ## References
#
# * F. Perazzi, J. Pont-Tuset, B. McWilliams, L. Van Gool, M. Gross, A. Sorkine-Hornung. *A Benchmark Dataset and Evaluation
#   Methodology for Video Object Segmentation.* CVPR 2016. DAVIS-2016; J, F, T and their statistics.
# * J. Pont-Tuset, F. Perazzi, S. Caelles, P. Arbeláez, A. Sorkine-Hornung, L. Van Gool. *The 2017 DAVIS Challenge on Video Object
#   Segmentation.* [arXiv:1704.00675](https://arxiv.org/abs/1704.00675). Several objects.
# * D. R. Martin, C. C. Fowlkes, J. Malik. *Learning to Detect Natural Image Boundaries Using Local Brightness, Color, and
#   Texture Cues.* PAMI 2004. The F-measure for boundaries.
# * N. Xu et al. *YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark.*
#   [arXiv:1809.03327](https://arxiv.org/abs/1809.03327). Thousands of clips, objects that appear late.
# * M. Okabe, K. Ito. *Color Universal Design*, 2008. The colours of our figures.
