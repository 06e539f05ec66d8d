# ---
# jupyter:
#   vos_tutorial: {}
# ---

# %% [markdown]
# # Appendix to 01: files, rare cases and wrong versions
#
# [← back to 01 The task and its metrics](../01_task_and_metrics.ipynb)
#
# Read this before you load masks of your own or write a metric of your own: how ids get their colours, three traps in the files, void
# that does not count, the quarters of decay, and what six wrong versions of F cost.

# %% tags=["setup"]
import tempfile

import numpy as np
import torch
from PIL import Image

from vos_tutorial import metrics
from vos_tutorial.clip import davis_palette, object_ids, write_mask
from vos_tutorial.course import figures
from vos_tutorial.course.exercises import check_01
from vos_tutorial.course.figures import tables


def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


# %% [markdown]
# ## A. The palette gives ids their colours
#
# Mask files are PNG pictures with a {{term:palette}}: each pixel stores an id, and a table of 256 colours, stored once, says how to
# paint it. This is the table of DAVIS:

# %%
for object_id in (0, 1, 2, 3, 4):
    print(object_id, f"{object_id:03b}", davis_palette()[object_id])

# %% [markdown]
# Read the middle column from the right. The last bit of the id switches on red, the next one green, the next one blue; the three bits
# after these add half as much, and so on. So object 3 (binary `011`) is red plus green, a dark yellow, and neighbouring ids get colours that are
# far apart.
#
# The colours are paint, the ids are data. Write a mask to a file, and open the file in two ways:

# %%
tiny = torch.tensor([[0, 1, 1], [0, 3, 255]], dtype=torch.uint8)
with tempfile.TemporaryDirectory() as folder:
    write_mask(f"{folder}/00000.png", tiny)
    file = Image.open(f"{folder}/00000.png")
    print("mode", file.mode, "  as ids:", np.array(file).tolist())
    print("after convert('RGB'), pixel (1, 1):", np.array(file.convert("RGB"))[1, 1])

# %% [markdown]
# **Trap 1: reading colours instead of ids.** `convert("RGB")`, or an image reader that does so by default, turns ids into colours. Open masks as they
# are, and look at the mode: `P` (palette) or `L` (grey) hold ids.
#
# The pictures in this course use colours that differ from those in the files. DAVIS's dark red and dark green look alike to many
# colour-blind readers; ours do not, and outlines and numbers carry the same information without colour.
#
# **Trap 2: blended ids.** See section 1 of the [main page](../01_task_and_metrics.ipynb).
#
# **Trap 3: two meanings of 255.** DAVIS-2016 stores its masks in black and white, 0 and 255. What does a program for DAVIS-2017 see in
# such a file?

# %%
black_and_white = tiny.eq(1).to(torch.uint8) * 255
print("as DAVIS-2017 reads it:", object_ids(black_and_white))
print("as DAVIS-2016 reads it:", object_ids((black_and_white != 0).to(torch.uint8)))

# %% [markdown]
# In one edition 255 means *object*, in the other *void*. Read the wrong way, the clip has no object, and no error is raised. That is why our
# loader asks for the year: `DavisFolder(root, year=2016)`.
#
# The two editions side by side (Perazzi et al., 2016; Pont-Tuset et al., 2017):
#
# | | DAVIS-2016 | DAVIS-2017 |
# |---|---|---|
# | masks | 0 and 255, one object | ids 1, 2, ... |
# | validation set | 20 sequences | 30 sequences with 61 objects |
# | one row of results is | a sequence | an object |
# | first and last frame | not scored | not scored |
# | metrics | J, F, and T (stability over time) | J and F |

# %% [markdown] tags=["exercise-text"]
# **Exercise A.1** (5 minutes, easy) Write `one_hot(mask)`: ids to one channel per object, in ascending order of id. Mind the gaps and
# void.
#
# <details><summary>Hint</summary>Compare the mask with one id at a time, and stack the results along a new first axis.</details>


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

# %% [markdown]
# ## B. Void that does not count
#
# The prediction below spills over the truth by a column. If whoever drew the truth marked that column as void ("I cannot say whether
# this belongs to the object"), should the spill cost anything?

# %%
truth = drawn(".....", ".###.", ".###.", ".###.", ".....")
wide = drawn(".....", ".####", ".####", ".####", ".....")
void = drawn("....#", "....#", "....#", "....#", "....#")
print("void is background:", metrics.region_similarity(truth, wide))
print("void does not count:", metrics.region_similarity(truth, wide, void))

# %% [markdown]
# DAVIS uses the first line for the semi-supervised task, which is ours, and the second for the unsupervised task, in which no mask is
# given.

# %% [markdown] tags=["exercise-text"]
# **Exercise A.2** (5 minutes, easy) Write `iou_with_void(truth, prediction, void)`: J of one frame, in which void pixels count for
# nothing. If there is nothing to count, J is 1.
#
# <details><summary>Hint</summary>Take the void pixels out of both masks first, then count as before.</details>


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

# %% [markdown]
# ## C. What a wrong version of F costs
#
# J and F look easy, so they are often reimplemented, with small deviations. One of them by hand: a square instead of a disk. Take two
# lone pixels that are diagonal neighbours, and a tolerance of 1. What share of the points of one boundary is near the other?

# %%
a = drawn(".....", ".#...", ".....", ".....", ".....")
b = drawn(".....", ".....", "..#..", ".....", ".....")
offsets = np.argwhere(metrics.boundary_map(a))[:, None] - np.argwhere(metrics.boundary_map(b))[None]
print(f"disk   {(np.linalg.norm(offsets, axis=2).min(axis=1) <= 1).mean():.2f}")
print(f"square {(np.abs(offsets).max(axis=2).min(axis=1) <= 1).mean():.2f}")

# %%
y, x = np.mgrid[-3:4, -3:4]
disks = {f"within {r}": y**2 + x**2 <= r**2 for r in (1, 2, 3)}
figures.show(
    figures.pixels(disks),
    "Three disks on seven by seven pixels: radius one is a plus of five pixels, radius two a diamond of thirteen, radius three a "
    "rounded shape of twenty-nine.",
    "What counts as near: disks, not squares.",
)

# %% [markdown]
# Now at full size. We made coarse predictions of synthetic masks: the truth averaged over cells of {{results/01_baselines.json:wrong_f.cell}} ×
# {{results/01_baselines.json:wrong_f.cell}} pixels and enlarged again, as a coarse network would return it. There are
# {{results/01_baselines.json:wrong_f.frames}} of them, {{results/01_baselines.json:wrong_f.size}} ×
# {{results/01_baselines.json:wrong_f.size}} pixels, with a tolerance of {{results/01_baselines.json:wrong_f.tolerance}}; done right, F is
# {{results/01_baselines.json:wrong_f.F|.1f}} and J {{results/01_baselines.json:wrong_f.J|.1f}}.

# %% tags=["reference"]
wrong = tables.stored("01_baselines", "wrong_f", "wrong")
columns = {"change": "change of F", "largest": "largest change, ±"}
tables.table({w["what"]: {n: w[k] for k, n in columns.items()} for w in wrong.values()}, rows="deviation")

# %% [markdown]
# The masks are the same in every row. *Change of F* is the mean over all masks in points; *largest change* is that of a single mask, up or
# down. Each deviation changes every mask's F, except for the border of the picture, which touches
# {{results/01_baselines.json:wrong_f.wrong.border.frames_changed|.0f}} % of the masks.
#
# ## D. The quarters of decay
#
# Decay is the mean of the first quarter of a series minus the mean of the last. But what is a quarter of eight frames? The quarter boundaries
# are found by rounding, and each quarter *includes both of its boundaries*, so neighbouring quarters share a frame.

# %%
series = [0.9, 0.85, 0.8, 0.7, 0.5, 0.45, 0.3, 0.2]
borders = np.round(np.linspace(1, len(series), 5) + 1e-10).astype(int) - 1
print("quarter boundaries", borders.tolist())
quarters = {"first quarter": (borders[0], borders[1]), "last quarter": (borders[3], borders[4])}
figures.show(
    figures.curves({"J": series}, "frame", "J", ylim=(0, 1), height=2.4, spans=quarters),
    "A falling curve of J over eight frames. Frames 0 to 2 are shaded as the first quarter, frames 5 to 7 as the last.",
    "Eight frames, quarters of three.",
)

# %% [markdown]
# The four quarters have 3, 3, 2 and 3 frames, eleven in all, because frames 2, 4 and 5 belong to two quarters each. `np.array_split`
# shares no frame and gives another decay: on our benchmark {{results/01_baselines.json:wrong_protocol.decay_split|.1f}} for *copy first* instead of
# {{results/01_baselines.json:wrong_protocol.decay|.1f}}. This is only a convention, but you need it to reproduce published numbers.

# %% [markdown] tags=["exercise-text"]
# **Exercise A.3** (10 minutes, medium) Write `decay(values)` with these boundaries, of which both belong to their quarter.
#
# <details><summary>Hint</summary>A Python slice leaves out its end; a quarter of DAVIS includes it.</details>


# %% tags=["exercise"]
def decay(values):
    """The decay of a list of J (or F), one value per scored frame, as DAVIS computes it."""
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
