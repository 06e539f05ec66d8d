# ---
# jupyter:
#   vos_tutorial:
#     smoke_seconds: 60
# ---

# %% [markdown]
# # 04 RVOS: one cell, many objects
#
# {{pages}}
#
# **Promise.** You build one recurrent cell that walks over a grid: down the objects of a frame, and along the frames of a video.
# With it you follow several objects at once, and find objects that nobody has pointed at. You find out what holds the slots
# apart, and about what the loss keeps silent.
#
# The method is *RVOS: End-to-End Recurrent Network for Video Object Segmentation* (Ventura, Bellver, Girbau, Salvador, Marqués and
# Giró-i-Nieto, CVPR 2019). Its idea in one sentence: *draw the masks one after the other, and tell each one what was drawn before
# it, in this frame and in the last.*

# %% [markdown]
# ## Run card
#
# | | |
# |---|---|
# | to read and do | about 120 minutes |
# | to run | {{results/run_cards.json:04_rvos_recurrence.cpu.seconds|.0f}} s ({{results/run_cards.json:04_rvos_recurrence.cpu.cores}} CPU cores), of which the training is the most; peak memory {{results/run_cards.json:04_rvos_recurrence.cpu.peak_mib}} MiB |
# | you need | notebooks 01 to 03; convolutions; what a gradient is. An LSTM is explained here |
# | afterwards you can | 1. write a convolutional LSTM cell that hears two states, 2. say which cell of a grid can influence which, 3. match slots to objects so that the total cost is least, 4. find a case about which a loss says nothing, and cure it |
#
# Nothing is downloaded. If a DAVIS folder is present, section 15 uses it.

# %% [markdown]
# ## Set-up

# %% tags=["setup"]
import dataclasses
import itertools
import json

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vos_tutorial import evaluation, metrics, models, profile, recipes, training
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip, ids_to_onehot
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_04
from vos_tutorial.places import RESULTS, RUNS, downloads
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.discs import Discs
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import rvos
from vos_tutorial.models.official import load_official
from vos_tutorial.propagation import most_probable, propagate, soft_aggregate
from vos_tutorial.recipes import Stage
from vos_tutorial.training.tasks import rvos as rvos_task

here = profile.current()
print("ready")

# %% [markdown]
# ## 1. The problem: every object for itself
#
# MaskTrack and RGMP follow *one* object. For three objects they run three times, and nobody tells one run what the others
# have found. Here are three objects, each followed by MaskTrack on its own:

# %%
crowd = list(sprites.benchmark(5, ["multiple_objects"]))[4]
masktrack = models.segmenter("masktrack")
alone = {
    o: propagate(masktrack, crowd.frames, torch.where(crowd.first_mask == o, crowd.first_mask, 0))
    for o in crowd.objects
}

# %%
shown = {"frame 12": crowd.frames[12]} | {f"object {o}, alone": alone[o][12] > 0 for o in crowd.objects}
figures.show(
    figures.gallery(shown | {"truth": crowd.masks[12]}, columns=5, height=1.5),
    "Frame twelve of a clip with three objects and the masks of three separate runs. The masks of objects one and two fit. "
    "The mask of object three covers object three and all of object one as well.",
)

# %% [markdown]
# The third run has swallowed object 1, and cannot know that object 1 is taken: the first run has it. The two claims are sorted
# out *afterwards*, by merging probabilities. No network has learned to make room.
#
# **It costs.** Each object takes a full pass through the network. At paper size, for a frame of 256 × 448:


# %%
def gigaflops(work):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


# %%
with torch.device("meta"):
    paper_masktrack = models.build("masktrack", "paper")
for n in (1, 3, 10):
    frames, guides = (torch.zeros(n, *s, 256, 448, device="meta") for s in ((3,), ()))
    print(
        f"{n:>2} objects: {gigaflops(lambda f=frames, g=guides: paper_masktrack(f, g)):6.0f} billion operations a frame"
    )

# %% [markdown]
# **And somebody must point.** Without a first mask these methods cannot begin:

# %%
try:
    propagate(masktrack, crowd.frames, torch.zeros_like(crowd.first_mask))
except TutorialError as error:
    print(error)

# %% [markdown]
# You look at frame 12 and see three things, although nobody has given you a mask. And when you have seen the first, you go on to
# the *next*. That "next" is what this page is about.

# %% [markdown]
# ## 2. Predict
#
# Write your guesses down before you go on. Each is settled further down.
#
# 1. A network draws three masks, one after the other, with the same weights, and no mask is given. Suppose that no draw hears
#    of the draws before it. What will the three masks look like after a long training?
# 2. An object leaves the picture. The right answer is an empty mask, the network draws a full one, and the loss is one minus the
#    IoU. In which direction does the gradient push?
# 3. In training, the last mask that the network is fed is always true. On a video it is the network's own. For how many frames
#    will nobody notice?

# %% [markdown]
# ## 3. The grid
#
# Lay out the work as a table: a column for each frame, a row for each object. A cell of the table is *one object in one
# frame*, and its result is one mask. RVOS fills the table frame by frame, and within a frame from the top down. All cells have
# the same weights.
#
# A cell hears three things:
#
# | arrow | comes from | carries |
# |---|---|---|
# | *space* | the object before it, in the same frame | a hidden state h and a cell state c |
# | *time* | the same object, in the frame before | its hidden state h, and no c |
# | *mask* | the same object, in the frame before | the mask it drew; only if masks are given at the start |
#
# Each row is called a *slot*. With masks given, object 1 has slot 0, object 2 has slot 1, and so on: this is *one-shot*. With
# nothing given, the network itself decides what it draws in which slot: this is *zero-shot*.
#
# ### Who can influence whom?
#
# By two arrows, a cell has at most two parents. Their parents have a say, too. Count frames `t` and slots `i` from 0:


# %%
def parents(t, i, space=True, time=True):
    found = []
    if space and i > 0:
        found.append((t, i - 1))
    if time and t > 0:
        found.append((t - 1, i))
    return found


# %%
def ancestors(t, i, **arrows):
    found = set()
    for parent in parents(t, i, **arrows):
        found |= {parent} | ancestors(*parent, **arrows)
    return found


# %% [markdown]
# **Your turn, on paper.** A grid of six frames and four slots. Which cells can influence slot 2 in frame 3? How many are they?
# And if space is cut, or time?

# %%
arrows = {"both": {}, "space alone": {"time": False}, "time alone": {"space": False}}
tables, marks = {}, {}
for name, cut in arrows.items():
    tables[name], marks[name] = np.zeros((4, 6), int), np.zeros((4, 6), bool)
    for t, i in ancestors(3, 2, **cut):
        tables[name][i, t] = 1
    marks[name][2, 3] = True
    print(f"{name:<12} {tables[name].sum()} cells")

# %%
figures.show(
    figures.pixels(tables, marks),
    "Three grids with four rows, the slots, and six columns, the frames; the cell of slot two in frame three is framed. With both "
    "arrows, its ancestors fill the block above it and to its left. With space alone they are the two cells above it, with "
    "time alone the three cells to its left.",
)

# %% [markdown]
# With both arrows it is everything above and to the left: (t + 1)(i + 1) - 1 cells. Note what is *not* in it.
#
# * No cell ever hears a slot below it, neither in its own frame nor in an earlier one. Slot 0 never learns what the others do. The order of the slots matters.
# * With time alone each slot lives by itself: one row, as MaskTrack and RGMP have it.
# * With space alone each frame is a fresh start.
#
# (The third arrow, the fed mask, runs beside the time arrow, so it adds no ancestor as long as there is time. With space alone and given masks it is the one link between frames.)
#
# The widget of section 13 draws the same for a trained network. Its library function sorts the ancestors by kind:

# %%
from vos_tutorial.course.widgets import ancestors as by_kind

kinds = by_kind(3, 2, frames=6, objects=4)
print({kind: sorted(cells) for kind, cells in kinds.items() if kind != "indirect"})
_ = check.equal("all ancestors", set().union(*kinds.values()), ancestors(3, 2))

# %% [markdown]
# ## 4. One cell
#
# ### An LSTM in five lines
#
# What does a cell do with what it hears? It is an LSTM (Hochreiter and Schmidhuber, 1997): it keeps a *cell state* c, a tally that
# is changed with care, and shows a part of it, the *hidden state* h. Four sums are made of all inputs. Three of them, squeezed
# between 0 and 1, are *gates*; the fourth, between -1 and 1, is what could be written down:
#
# | sum | squeezed by | says |
# |---|---|---|
# | i, *input* | $\sigma$ | how much of the new is written |
# | f, *forget* | $\sigma$ | how much of the old is kept |
# | o, *output* | $\sigma$ | how much of the tally is shown |
# | g, *candidate* | tanh | the new |
#
# $$c_{\text{new}} = \sigma(f)\, c + \sigma(i) \tanh(g) \qquad h_{\text{new}} = \sigma(o) \tanh(c_{\text{new}})$$
#
# ### One pixel, two objects, by hand
#
# Take a single pixel and states with a single channel. The pixel shows *something*, x = 1. Each sum is a weighted sum of x, of the h of
# the object before (*space*) and of its own h in the last frame (*time*), and a constant. The weights are ours:

# %%
#                    x     space  time  constant
by_hand = torch.tensor(
    [
        [4.0, -8.0, 4.0, -2.0],  # i: write if something is there, and not taken, or if it was mine
        [0.0, 0.0, 0.0, 3.0],  # f: keep what is written
        [4.0, -8.0, 4.0, -2.0],  # o: show it under the same conditions
        [3.0, 0.0, 0.0, 0.0],  # g: what is written is "here is something"
    ]
)


# %%
def one_pixel(x, h_space, c, h_time):
    i, f, o, g = by_hand @ torch.tensor([x, h_space, h_time, 1.0])
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return float(o.sigmoid() * c.tanh()), float(c)


# %% [markdown]
# Slot 0 has nobody before it: both states are zero. Its i is 4 - 2 = 2, so $\sigma(2)$ = 0.88 of the new is written. Slot 1
# gets h and c from slot 0.

# %%
h0, c0 = one_pixel(1.0, h_space=0.0, c=0.0, h_time=0.0)
h1, c1 = one_pixel(1.0, h_space=h0, c=c0, h_time=0.0)
print(f"slot 0: c = {c0:.2f}, h = {h0:.2f}")
print(f"slot 1: c = {c1:.2f}, h = {h1:.2f}")

# %% [markdown]
# Slot 0 claims the pixel, and slot 1 keeps its hands off: space works. Look at c. In slot 1 it is nearly what it was in slot 0, although h is
# almost zero. So c remembers *somebody has this pixel* even where slot 1 shows nothing.
#
# **A catch.** What will slot 2 do? It hears the h of slot 1, which is almost zero, and its gates do not look at c.

# %%
h2, c2 = one_pixel(1.0, h_space=h1, c=c1, h_time=0.0)
print(f"slot 2: c = {c2:.2f}, h = {h2:.2f}")

# %% [markdown]
# It claims the pixel again. With one channel, h cannot say both *mine* and *taken by somebody before me*. With 32 channels there is room for
# both, and the network must learn to use it.
#
# ### Along the frames
#
# In the next frame each slot hears its own h. The tally c is *not* carried over: the walk down the objects begins with zeros
# in each frame.

# %%
h = [0.0, 0.0]
for t in range(3):
    h_space, c = 0.0, 0.0  # nobody is before slot 0
    for i in (0, 1):
        h_space, c = one_pixel(1.0, h_space, c, h_time=h[i])
        h[i] = h_space
        print(f"frame {t}, slot {i}: c = {c:.2f}, h = {h[i]:.2f}")

# %% [markdown]
# From frame 1 on slot 0 is surer than before, since it had the pixel already.
#
# Why no c through time? Nothing forces it; it is the authors' choice. In one cell there is room for *one* tally, and they gave it to
# the objects. What time carries, h, is an input like any other: no gate multiplies it and no gate forgets it. What would a
# second tally cost? That is exercise 4.5.
#
# ### The cell as a network
#
# Now states are maps, and weighted sums are 3 × 3 convolutions: a *ConvLSTM* (Shi and others, 2015). All inputs are stacked, one
# convolution makes all four sums. The order in the stack is: input, mask if there is one, space, time.


# %% tags=["variant-of:vos_tutorial.models.rvos.ConvLSTMCell"]
class Cell(nn.Module):
    def __init__(self, channels, hidden, mask):
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels + mask + 2 * hidden, 4 * hidden, 3, padding=1)

    def forward(self, x, mask, spatial, temporal):
        nothing = torch.zeros(len(x), self.hidden, *x.shape[-2:])
        h_space, c = spatial if spatial is not None else (nothing, nothing)
        h_time = temporal if temporal is not None else nothing
        heard = [x, h_space, h_time] if mask is None else [x, mask, h_space, h_time]
        i, f, o, g = self.gates(torch.cat(heard, dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


# %%
torch.manual_seed(0)
cell, library_cell = Cell(6, 4, True), rvos.ConvLSTMCell(6, 4, True)
library_cell.load_state_dict(cell.state_dict())
x, mask = torch.randn(2, 6, 5, 7), torch.rand(2, 1, 5, 7)
spatial, temporal = (torch.randn(2, 4, 5, 7), torch.randn(2, 4, 5, 7)), torch.randn(2, 4, 5, 7)

# %%
mine, theirs = cell(x, mask, spatial, temporal), library_cell(x, mask, spatial, temporal)
_ = check.shapes(x=(x, "B C h w"), mask=(mask, "B 1 h w"), h=(mine[0], "B D h w"), c=(mine[1], "B D h w"))
_ = check.close("the library's cell", mine, theirs, atol=1e-5)

# %% [markdown]
# Is it the cell from above? Put the weights that we wrote by hand into the middle of the 3 × 3 windows:

# %%
tiny = rvos.ConvLSTMCell(1, 1, False)
with torch.no_grad():
    tiny.gates.weight.zero_()[:, :, 1, 1] = by_hand[:, :3]
    tiny.gates.bias.copy_(by_hand[:, 3])
    one = torch.ones(1, 1, 1, 1)
    first = tiny(one, None, None, None)
    second = tiny(one, None, first, None)
_ = check.close("slot 0 and slot 1", [float(v) for v in (*first, *second)], [h0, c0, h1, c1], atol=1e-5)

# %% [markdown]
# ### The order of the gates
#
# The four sums are four equal pieces of one tensor. Which piece is which gate is a convention: i, f, o, g here, while PyTorch's own `nn.LSTM`
# has i, f, g, o. With trained weights in it, the wrong order gives the right shape, no error, and nonsense:

# %%
pieces = library_cell.gates(torch.cat([x, mask, spatial[0], temporal], dim=1))
i, f, g, o = pieces.chunk(4, dim=1)  # PyTorch's order
c_wrong = f.sigmoid() * spatial[1] + i.sigmoid() * g.tanh()
print("same shape:", c_wrong.shape == theirs[1].shape, " same values:", torch.allclose(c_wrong, theirs[1], atol=0.01))

# %% [markdown]
# ### The tally moves along the objects only
#
# A test: make every forget gate open wider. What changes for the first object of a frame?

# %%
with torch.no_grad():
    before = library_cell(x, mask, None, temporal), library_cell(x, mask, spatial, temporal)
    library_cell.gates.bias[4:8] += 5  # the second piece: f
    after = library_cell(x, mask, None, temporal), library_cell(x, mask, spatial, temporal)
_ = check.equal("first object, with an h from the last frame", after[0], before[0])
print("a later object is the same:", torch.allclose(after[1][1], before[1][1]))

# %% [markdown]
# Nothing at all, although it hears an h from the frame before. There is no c to be kept: time does not pass through
# the forget gate.

# %% [markdown]
# ## 5. From coarse to fine
#
# ### Four skips
#
# The encoder sees each frame *once*, whatever the number of objects, and without any mask. Its four maps go through a 3 × 3
# convolution each and become the *skips* of the decoder. Here they are, coarse first, of our small network with random weights:

# %% tags=["setup"]
torch.manual_seed(0)
small = rvos.build().eval()  # one-shot, random weights

# %%
frames = crowd.frames.float() / 255
with torch.no_grad():
    skips = small.encode(frames[:1])
for stride, skip_map, hidden in zip(small.strides, skips.maps, small.hidden, strict=True):
    print(f"1/{stride:<4} skip {list(skip_map.shape[1:])!s:<16} hidden state: {hidden} channels")

# %% [markdown]
# A cell of the grid is a column of four ConvLSTM cells, one for each map. The coarsest works first. Its h is enlarged and stacked on the next
# skip, and so on down to the finest, whose h becomes the mask. *Each* level has its own space arrow and its own time
# arrow: where coarse cells meet, they agree on who takes which corner, and where fine cells meet, on the contour between two.
#
# ### The last mask, at four sizes
#
# One-shot, each level also gets the object's last mask at its own size. It is made by *max pooling*: a cell is on if any pixel in it is. Why not the mean? Take a thin
# object:

# %%
thin = torch.zeros(5, 7)
thin[1, 2:6] = thin[2, 5] = 1
sizes = {"mask": thin}
for name in ("half", "quarter"):
    sizes[name] = F.max_pool2d(list(sizes.values())[-1][None, None], 2, ceil_mode=True)[0, 0]
sizes |= {"quarter, by mean": F.avg_pool2d(thin[None, None], 4, ceil_mode=True)[0, 0]}
figures.show(
    figures.pixels(sizes),
    "A thin mask of five by seven pixels; by max pooling its half has three by four cells and its quarter two by two, of which the "
    "upper ones are on. By the mean the same quarter holds small fractions only.",
)

# %% [markdown]
# By the mean a small object fades before it arrives at the level that decides where things are. Note the sizes: 5 becomes 3 and 7 becomes 4. Convolutions with a
# stride round *up*, so pooling must do so as well (`ceil_mode=True`), or the maps do not fit. The frames of DAVIS at 240 × 427 put this to the test. On the device
# `meta` tensors have a shape and no content:

# %%
with torch.device("meta"):
    paper = rvos.build("paper").eval()
    full_skips = paper.encode(torch.zeros(1, 3, 240, 427))
    pyramid = rvos.mask_pyramid(torch.zeros(1, 1, 240, 427), paper.strides)
for stride, skip_map, level in zip(paper.strides, full_skips.maps, pyramid, strict=True):
    print(f"1/{stride:<3} skip {list(skip_map.shape[1:])!s:<16} mask {list(level.shape[2:])}")

# %% [markdown]
# The half size, 120 × 214, is made on the way and not used: no level has it.
#
# ### One object, one frame


# %%
def draw(network, skips, pyramid, spatial, temporal):
    states = []
    for k, (cell, skip) in enumerate(zip(network.cells, skips.maps, strict=True)):
        if k > 0:  # what the coarser level found, enlarged
            above = F.interpolate(states[-1][0], skip.shape[-2:], mode="bilinear", align_corners=True)
            skip = torch.cat([above, skip], dim=1)
        states.append(cell(skip, pyramid[k], spatial and spatial[k], temporal and temporal[k]))
    h = states[-1][0]
    twice = F.interpolate(h, (2 * h.shape[-2], 2 * h.shape[-1]), mode="bilinear", align_corners=True)
    return network.predict(twice), states


# %%
first_masks = ids_to_onehot(crowd.first_mask, crowd.objects).float()  # N H W
with torch.no_grad():
    pyramids = [rvos.mask_pyramid(m[None, None], small.strides) for m in first_masks]
    logit, states = draw(small, skips, pyramids[0], None, None)
    next_logit, _ = draw(small, skips, pyramids[1], states, None)
    theirs = small.decode(skips, pyramids[1], small.decode(skips, pyramids[0], None, None)[1], None)
_ = check.shapes(logit=(logit, "B 1 H W"), finest_h=(states[-1][0], "B C h w"))
_ = check.close("the library's second object", next_logit, theirs[0], atol=1e-5)

# %% [markdown]
# (`align_corners` was explained in notebook 03. Here it must be `True`, as in the authors' code.)
#
# What do the levels know of an object? From here on we use networks that ship with the course. One is one-shot and was trained several times
# as long as yours will be (with one more term in its loss, that of section 8, and in the end on clips that look more like a camera's). The other is zero-shot. Two slots see the same frame. So wherever their states differ, a level knows
# whose mask it is to draw:

# %% tags=["setup"]
trained = models.trained("rvos")
finder = models.trained("rvos", models.shipped_weights("rvos", "zero-shot"))

# %%
with torch.no_grad():
    moments = list(rvos.unroll(trained, frames[None, :5], first_masks[None], len(first_masks)))
between = {
    f"h at 1/{s}": (h[0, 0] - h[0, 2]).abs().mean(0) for s, h in zip(trained.strides, moments[4].hidden, strict=True)
}
figures.show(
    figures.gallery({"frame 4": frames[4], **between}, columns=5, height=1.5),
    "A frame with three objects, and how much the hidden states of slots zero and two differ at four levels, from six by six cells to "
    "half the resolution.",
)

# %% [markdown]
# Mind the four scales. At 1/16 the two slots hardly differ: this small network does not settle there who is who. From 1/8 on they differ on the two objects and nowhere else, and at 1/2 the shapes are those of the objects.

# %% [markdown]
# ## 6. Space: several slots
#
# ### How good is a soft mask?
#
# RVOS has one loss: one minus the IoU, with probabilities in the place of decisions. Where the two masks overlap counts $q\,y$, and
# what either of them covers counts $q + y - q\,y$. Four pixels by hand:
#
# | | pixel 0 | 1 | 2 | 3 | sum |
# |---|---|---|---|---|---|
# | probability q | 0.9 | 0.8 | 0.1 | 0.0 | |
# | truth y | 1 | 1 | 0 | 0 | |
# | both | 0.9 | 0.8 | 0 | 0 | 1.7 |
# | either | 1 | 1 | 0.1 | 0 | 2.1 |
#
# The cost is 1 - 1.7 / 2.1 = 0.19. <!-- given -->


# %% tags=["builds:vos_tutorial.models.rvos.soft_iou_cost"]
def soft_iou_cost(probability, target):
    both = (probability * target).sum((-2, -1))
    either = (probability + target - probability * target).sum((-2, -1))
    return 1 - both / (either + 1e-6)


# %%
q, y = torch.tensor([[0.9, 0.8, 0.1, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # H W, with H = 1
print(f"{float(soft_iou_cost(q, y)):.4f} = 1 - 17 / 21 = {1 - 17 / 21:.4f}")

# %% [markdown]
# A cross-entropy counts pixels, so that a small object weighs little. The IoU is relative to the object: small or large, each counts
# the same. Keep this loss in mind for section 8.
#
# ### Which slot is which object?
#
# One-shot, the question does not arise: slot 0 was given object 1. Zero-shot, the network draws masks in an order of its own. It would be wrong to blame slot 0 for not
# drawing object 1, if slot 1 has drawn it well. So first find out who drew whom: the *assignment* with the least sum of costs. A table
# of three objects and three slots:

# %%
costs = np.array(
    [
        [0.2, 0.3, 0.9],  # object 1 in slot 0, 1, 2
        [0.1, 0.6, 0.8],  # object 2
        [0.9, 0.7, 0.4],  # object 3
    ]
)

# %% [markdown]
# **By hand.** Let each object take its best free slot, in turn. Object 1 takes slot 0 for 0.2. Object 2 would have wanted slot 0, and is left with slot 1 for
# 0.6. Object 3 takes slot 2. The sum is 1.2. Is there something better? There are only six ways:

# %%
for slots in itertools.permutations(range(3)):
    parts = [costs[g, s] for g, s in enumerate(slots)]
    print(f"objects 1, 2, 3 in slots {slots}: {' + '.join(f'{p:.1f}' for p in parts)} = {sum(parts):.1f}")

# %% [markdown]
# The best is (1, 0, 2): object 1 gives way, for little, and object 2 gains much. For ten objects there are 3,628,800 ways. <!-- given --> The *Hungarian method* (Kuhn, 1955) finds
# the best one without trying them; scipy has it:

# %%
rows, columns = linear_sum_assignment(costs)
print("slots of objects 1, 2, 3:", columns.tolist(), f" sum {costs[rows, columns].sum():.1f}")

# %% [markdown]
# A clip may hold fewer objects than there are slots. The authors then allow only the first n slots for n objects; every other pair has a cost of 10, far above any real one. So what is drawn in the later slots is never looked at.


# %% tags=["variant-of:vos_tutorial.training.tasks.rvos.assign"]
def assign(cost, valid):
    answers = []
    for table, there in zip(cost, valid, strict=True):  # [G, S], [G]
        slots = range(table.shape[1])
        allowed = there[:, None] & (torch.arange(len(slots)) < there.sum())
        table = torch.where(allowed, table.double(), 10.0)
        sums = {
            s: sum(float(table[g, k]) for g, k in enumerate(s)) for s in itertools.permutations(slots, len(table))
        }
        answers.append(min(sums, key=sums.get))
    return torch.tensor(answers)


# %%
table = torch.tensor(costs)[None]
two_of_three = torch.tensor([[True, True, False]])
_ = check.equal(
    "three objects", assign(table, torch.ones(1, 3).bool()), rvos_task.assign(table, torch.ones(1, 3).bool())
)
_ = check.equal("two objects", assign(table, two_of_three), rvos_task.assign(table, two_of_three))

# %% [markdown]
# In training this is done *once a clip*, on frame 0, and the answer holds for all its frames. If slots were matched anew in each frame, it would
# cost nothing to draw the dog in slot 0 now and in slot 1 a frame later. The fixed assignment is what teaches a slot to stay
# with its object. And the choice itself has no gradient: it only decides who is compared with whom.
#
# ### What the finder draws
#
# To find objects by itself is hard for a small network: in the sprite world it takes far more training than a page can afford. So
# for this question we go to the simplest world there is, *discs* of different colours that bounce over a smooth background. The shipped zero-shot network was
# trained with two discs and two slots. Nobody gives it a mask. Since slots have no weights of their own, we may also ask for a third one:

# %%
pair = Discs().clip(9_100_001, size=64)  # as large as in training
disc_frames, disc_masks = pair.frames.float() / 255, ids_to_onehot(pair.first_mask, [1, 2]).float()
with torch.no_grad():
    found = rvos.rollout(finder, disc_frames[None, :1], None, slots=3)[0, 0]  # N H W
shown = {"frame 0": pair.frames[0], "discs 1 and 2": pair.masks[0]} | {f"slot {i}": p for i, p in enumerate(found)}
figures.show(
    figures.gallery(shown, columns=5, height=1.4),
    "A frame with two discs, their true masks, and what the three slots of the zero-shot network draw, as maps of probabilities.",
)

# %% tags=["run"]
pairs = rvos.soft_iou_cost(found[None], disc_masks[:, None])
print("cost of disc (row) in slot (column):")
print(pairs.numpy().round(2))
print("slots of discs 1 and 2:", linear_sum_assignment(pairs.numpy())[1].tolist())

# %% [markdown]
# Nobody has ever looked at what the third slot draws: in training there was none. Nor would it have been looked at if there had been one, since two discs may only use the first two slots.

# %% [markdown]
# ### Without space
#
# Now the first prediction. Cut the space arrows, strictly: no slot ever hears of another. An *untrained* zero-shot network:

# %% tags=["setup"]
torch.manual_seed(0)
untrained = rvos.build(one_shot=False)

# %%
with torch.no_grad():
    for recurrence in ("ST", "S", "T"):
        p = rvos.rollout(untrained, disc_frames[None, :3], None, slots=3, recurrence=recurrence)[0]
        same = [torch.equal(p[:, 0], p[:, i]) for i in (1, 2)]
        print(f"{recurrence:<3} slot 0 = slot 1: {same[0]!s:<6} slot 0 = slot 2: {same[1]}")

# %% [markdown]
# With T all slots are the same, *to the last bit*. And they must be. In frame 0 a slot sees the frame, and an h of zeros; so does every other. The weights are the
# same, so the masks are, and so is the h they leave behind. In frame 1 a slot sees the frame and that h: nothing differs again, and so on for ever.
#
# Can training break the tie? The slots are compared with *different* objects, so their gradients differ:

# %%
strict = Stage("strict", steps=3, batch=2, size=64, lr=0.01, options={"source": "discs", "recurrence": "T"})
two = training.task("rvos").batch(strict, [1, 2], torch.device("cpu"))
optimizer = torch.optim.Adam(untrained.parameters(), lr=strict.lr)
for _ in range(3):
    optimizer.zero_grad()
    training.task("rvos").loss(untrained, two, strict)[0].backward()
    optimizer.step()

# %%
with torch.no_grad():
    p = rvos.rollout(untrained.eval(), two["frames"], None, slots=3, recurrence="T")
_ = check.equal("after three steps, slots 0 and 1", p[:, :, 1], p[:, :, 0])
_ = check.equal("after three steps, slots 0 and 2", p[:, :, 2], p[:, :, 0])

# %% [markdown]
# It cannot. All gradients add up in *one* set of weights, and whatever these become, the slots still see the same. No length of training helps. This settles the first prediction: all masks are
# one mask.
#
# Which mask will it be? Suppose there are n objects of equal size. If all slots draw the same *one*, its IoU is 1 and that of the others 0. If all draw *all objects together*, the IoU with each is 1/n. On average that is 1/n, both times. So a training without space can end with everything that stands out, or
# with one object, and nothing in its loss prefers the one or the other. Section 12 has three trainings of that kind.
#
# In the authors' setting "temporal only" frame 0 still has the space arrows (the code drops them as soon as there is a memory). That breaks the tie once. The library calls it `"T released"`, and the strict one
# `"T"`.

# %% [markdown]
# ## 7. Time, and the whole walk
#
# ### Everything in one function
#
# Two loops over the grid, and inside them the decoder of section 5. This is RVOS.


# %% tags=["variant-of:vos_tutorial.models.rvos.rollout"]
def walk(network, frames, masks0, slots, recurrence="ST"):
    memory, previous, answers = [None] * slots, masks0, []
    for t, frame in enumerate(frames):
        if masks0 is not None and t >= 2:  # frames 0 and 1 get the given masks
            previous = answers[-1]
        skips, spatial, drawn = network.encode(frame[None]), None, []
        for i in range(slots):
            mask = None if previous is None else rvos.mask_pyramid(previous[i][None, None], network.strides)
            no_space, no_time = recurrence == "T", recurrence == "S"
            logit, spatial = network.decode(
                skips, mask, None if no_space else spatial, None if no_time else memory[i]
            )
            memory[i] = [h for h, c in spatial]  # h goes on to the next frame, c does not
            drawn.append(F.interpolate(logit, skips.size, mode="bilinear", align_corners=True)[0, 0])
        answers.append(torch.stack(drawn).sigmoid())
    return torch.stack(answers)


# %%
with torch.no_grad():
    for recurrence in ("ST", "S", "T"):
        mine = walk(small, frames[:4], first_masks, 3, recurrence)
        library = rvos.rollout(small, frames[None, :4], first_masks[None], 3, recurrence)[0]
        _ = check.close(f"one-shot, {recurrence}", mine, library, atol=1e-5)
        mine = walk(finder, frames[:4], None, 3, recurrence)
        library = rvos.rollout(finder, frames[None, :4], None, 3, recurrence)[0]
        _ = check.close(f"zero-shot, {recurrence}", mine, library, atol=1e-4)

# %%
_ = check.shapes(frames=(frames[:4], "T 3 H W"), first_masks=(first_masks, "N H W"), answers=(mine, "T N H W"))

# %% [markdown]
# The letters S and T are the two switches that the paper plays with: *space*, *time*, or both. The library has one more switch, the network itself: with the mask channel (one-shot) or without (zero-shot).
#
# ### The mask channel
#
# Three details of one-shot, all from the authors' code:
#
# * Frame 0 is walked as well, with the given masks as "last" masks. Its answer is not used, but its h is.
# * Frame 1 gets the given masks once more. From frame 2 on each slot is fed its own probabilities, soft, as they are.
# * A slot is fed *its own* mask only. Of the others it knows what space tells it.
#
# With a mask of its own, each slot sees something different from the start. So one-shot, T breaks no tie because there is none: **Predict** how much worse than ST it will be.
#
# ### Two claims on one pixel
#
# Each slot is judged by itself, by a sigmoid, and no softmax makes the slots share. Space *teaches* them to make room, and nothing *forces* them to. So what is left of the fight is settled at the end, by soft aggregation as in notebook 03; what is fed back stays as it was drawn. (The authors decide at 0.5
# instead, and let the object that fitted best in frame 0 win.) <!-- given -->

# %%
with torch.no_grad():
    claims = walk(trained, frames[:8], first_masks, 3)[-1]
merged = soft_aggregate(claims)
together = propagate(rvos.segmenter(trained), crowd.frames, crowd.first_mask)
_ = check.shapes(claims=(claims, "N H W"), merged=(merged, "K H W"))
_ = check.between(
    "pixels on which the library agrees", (most_probable(merged) == together[7]).float().mean(), 0.999, 1
)

# %%
figures.show(
    figures.contact_sheet(crowd, prediction={"RVOS": together}, columns=6),
    "Six frames of the clip of section 1 with the masks that the shipped RVOS draws for its three objects in one walk.",
)

# %% [markdown]
# The clip from section 1. Where they touch, object 3 takes a bite out of object 1, and a piece of object 1 still counts as object 3 when the two have parted. But it does not swallow object 1, as it did in section 1. The masks are coarser than MaskTrack's. Section 11 says by how much.
#
# ### What can be done for all objects at once
#
# The loop above repeats work. The convolution of a stack is a sum of convolutions, one for each piece of the stack (notebook 03, section 4). And the order of the walk may be changed: finish the coarsest level for *all* slots, then the next one. No cell notices, since it has all it hears. Now look at what is known when a level begins:
#
# | piece of the stack | depends on | can be done |
# |---|---|---|
# | skip | the frame | once a frame |
# | mask, h of the last frame, the coarser h | the slot; all of it is known | for all slots at once, as a batch |
# | h of the object before | the object before, at this level | one slot after the other |
#
# `RVOS.frame` does just this. What does it save at paper size, 256 × 448, in billions of multiplications and additions?


# %%
def naive(network, skips, masks, memory):
    spatial = None
    for i in range(masks.shape[1]):
        mask = rvos.mask_pyramid(masks[:, i, None], network.strides)
        _, spatial = network.decode(skips, mask, spatial, [h[:, i] for h in memory])


# %%
with torch.device("meta"):
    frame = torch.zeros(1, 3, 256, 448)
    full_skips = paper.encode(frame)
print(f"the encoder, once a frame: {gigaflops(lambda: paper.encode(frame)):.1f}")
for n in (1, 3, 10):
    masks = torch.zeros(1, n, 256, 448, device="meta")
    _, memory = paper.frame(full_skips, masks, None, n)
    one_by_one = gigaflops(lambda m=masks, h=memory: naive(paper, full_skips, m, h))
    shared = gigaflops(lambda m=masks, h=memory, n=n: paper.frame(full_skips, m, h, n))
    print(f"{n:>2} objects: the loop {one_by_one:5.1f}, what is common done once {shared:5.1f}")

# %% [markdown]
# Compare with section 1. There ten objects took ten times as long as one; here they take less than half as much again, because the dear part, the encoder, does not know of objects. What makes it cheap also makes it weak: all that tells one object
# from another has to pass through a few small maps.

# %% [markdown]
# ## 8. The silent gradient
#
# ### A proof in two lines
#
# An object is hidden, so the right mask is empty: y = 0 at every pixel. The cost is
#
# $$1 - \frac{\sum q\,y}{\sum (q + y - q\,y) + \varepsilon} = 1 - \frac{0}{\sum q + \varepsilon} = 1,$$
#
# **whatever q is.** A function that is constant has the gradient zero. That is all.

# %%
logits = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)  # H W, with H = 1
nothing = torch.zeros(1, 3)
cost = soft_iou_cost(logits.sigmoid(), nothing)
cost.backward()
print("cost:", cost.item(), " gradient:", logits.grad[0].tolist())

# %% [markdown]
# Not small: zero. This settles the second prediction: it pushes nowhere. Each such frame adds a 1 to the loss, which no one can lower. For comparison, a single pixel of an object, and the gradient is back:

# %%
logits.grad = None
soft_iou_cost(logits.sigmoid(), torch.tensor([[0.0, 0.0, 1.0]])).backward()
print("gradient with one pixel of an object:", [round(g, 3) for g in logits.grad[0].tolist()])

# %% [markdown]
# So nothing in the training ever teaches a slot to *keep silent* when its object is away. It goes on drawing, and what it draws is whatever its other lessons say: something that stands out,
# something near the last mask. The same holds for the slots beyond the last object, zero-shot.
#
# ### A cure: one more term
#
# Where the target is empty, add a term that knows what an empty mask is: the mean cross-entropy with zero, $-\log(1 - q)$ at each pixel, times a weight. It grows with each wrongly claimed pixel.


# %%
def cured_cost(logits, target, weight=1.0):
    cost = soft_iou_cost(logits.sigmoid(), target)
    silent = (target == 0).flatten(-2).all(-1)
    return cost + weight * silent * F.softplus(logits).mean((-2, -1))  # softplus(z) is -log(1 - sigmoid(z))


# %%
logits.grad = None
cured_cost(logits, nothing).backward()
print("cured, empty target:", [round(g, 3) for g in logits.grad[0].tolist()])

# %% [markdown]
# All three logits are pushed down, the largest the most. Where the object *is* to be seen the term is zero, so that nothing changes there. Two hundred steps downhill, starting from a full mask:

# %%
for name, loss in (
    ("soft IoU", lambda z: soft_iou_cost(z.sigmoid(), nothing)),
    ("cured", lambda z: cured_cost(z, nothing)),
):
    z = torch.full((1, 3), 2.0, requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(z), z)
        z = (z - 0.5 * slope).detach().requires_grad_()
    print(f"{name:<10} probability from 0.88 to {float(z.detach().sigmoid().mean()):.2f}")

# %% [markdown]
# The library's loss has this term as the option `empty`, its weight. The authors' loss is `empty=0`:

# %%
truth = torch.zeros(1, 2, 4, 4)
truth[0, 0, :2] = 1  # two slots: an object that is there, and one that is away
z = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
moment = rvos.RolloutFrame(z, z.sigmoid(), [], None)
mine = torch.stack([cured_cost(z[0, i], truth[0, i], weight=0.5) for i in (0, 1)]).mean()
library = rvos_task.frame_loss(moment, truth, valid=torch.ones(1, 2).bool(), empty=0.5)
_ = check.close("the library's loss, with the term", mine, library, atol=1e-5)

# %% [markdown]
# Is it harmless? A term that rewards silence may make a network too silent. Section 14 measures both sides.

# %% [markdown]
# ## 9. The network in full size
#
# The paper's encoder is a ResNet-101 with all four stages, the hidden size is 128.

# %%
for name, part in paper.named_children():
    print(f"{name:<10}{sum(p.numel() for p in part.parameters()):>12,}")
print(f"{'all':<10}{sum(p.numel() for p in paper.parameters()):>12,} parameters, one-shot")

# %%
with torch.device("meta"):
    zero_shot = rvos.build("paper", one_shot=False)
print(f"{'':<10}{sum(p.numel() for p in zero_shot.parameters()):>12,} parameters, zero-shot")
weights_of_masks = [9 * 4 * hidden for hidden in paper.hidden]
print("the mask's weights at the four levels:", " + ".join(map(str, weights_of_masks)), "=", sum(weights_of_masks))

# %% [markdown]
# The difference between one-shot and zero-shot is one input channel at each level: 3 × 3 weights for each of the four gates of each hidden channel. The authors' one-shot network has 49,349,233 parameters without the classifier of the ResNet, which nobody
# uses. Ours has as many.

# %%
with torch.device("meta"):
    logits, memory = paper.frame(full_skips, torch.zeros(1, 10, 256, 448), None, slots=10)
_ = check.shapes(frame=(frame, "B 3 H W"), logits=(logits, "B 10 H W"), coarsest=(memory[0], "B 10 128 h w"))
print("memory of ten slots:", sum(h.numel() for h in memory), "numbers; the frame:", frame.numel())

# %% [markdown]
# ### Is it the authors' network?
#
# With their weights in it, it should give their numbers. The authors' training writes two files, `encoder.pt` and `decoder.pt`. `load_official` reads the folder that holds them, and sees from the shapes whether it is one-shot.

# %% tags=["run"]
theirs = downloads() / "rvos_released"
if theirs.is_dir():
    released = load_official("rvos", theirs)
    print(f"loaded {sum(p.numel() for p in released.parameters()):,} parameters")
else:
    print("no folder rvos_released with encoder.pt and decoder.pt in the data folder; put it there if you have it.")
    print("The course does not need it.")

# %% [markdown]
# We had no released weights at hand. What we compared is a run of the authors' code with *random* weights against ours with the same weights, at a size at which all maps have odd sides: hidden and cell states of two objects, roll-outs zero-shot, with space only, with time only (as
# released) and one-shot, and the loss of a training clip with its assignment. From equal skips on, states agree within 2e-5, probabilities in all roll-outs within 1e-5, and losses within 1e-6. <!-- given --> The skips themselves differ by up to 1e-3 at the coarsest level, since a random ResNet-101 adds up numbers of
# very different size; so far are the authors' own numbers from the exact ones, too. `tests/test_rvos.py` repeats the comparison where the file is, and shows that a wrong wire would be seen: it changes the masks by 0.07 and more. <!-- given -->

# %% [markdown]
# ## 10. Train it
#
# ### One clip, one grid, one backward pass
#
# The whole clip, all slots in all frames, is one graph. The cost of each slot in each frame is added up, and the gradient runs back through all arrows that carry one. Which do?

# %%
short = {"source": "discs", "frames": 3, "previous": "own"}
one_clip = Stage("one", steps=1, batch=1, size=64, lr=1e-3, options=short)
batch = training.task("rvos").batch(one_clip, [4], torch.device("cpu"))
targets = ids_to_onehot(batch["masks"][0], [1, 2]).float()  # T N H W
moments = list(rvos.unroll(small, batch["frames"], targets[None, 0], slots=2, given=1))

# %%
for t in (1, 2):
    print(f"frame {t}: the fed mask carries a gradient: {moments[t].masks.requires_grad}", end=", ")
    print(f"h does: {moments[t].hidden[0].requires_grad}")

# %% [markdown]
# The fed masks are *detached*: a late cost cannot ask an early frame for a better mask. (RGMP, in notebook 03, let it.) But it can ask for a better h. So in RVOS the hidden states are the only way for a lesson to travel back in time.

# %%
costs = torch.stack([soft_iou_cost(m.probability[0], y).mean() for m, y in zip(moments, targets, strict=True)])
_ = check.close("the library's loss", costs.sum(), training.task("rvos").loss(small, batch, one_clip)[0], atol=1e-4)

# %% [markdown]
# The authors *add* the frames of a clip, so that a clip twice as long makes steps twice as large. Our recipe takes the mean, which does not depend on the length.
#
# ### First the truth, then its own
#
# One-shot, training has two stages. In the first the last mask is the *true* mask of the frame before, in the second the network's own. You know the reason from notebook 03: who has only been fed truths does not know what to do with an error. That is *exposure bias*. Why not
# the own masks from the start? Because in the beginning they are noise, and there is nothing to be learned from them. So the easy lesson comes first: a *curriculum*. The recipe is data:

# %% tags=["run"]
recipe = recipes.load("rvos", here.name if here.is_smoke else "cpu")
for stage in recipe.stages:
    told = {name: stage.options[name] for name in ("frames", "previous", "recurrence", "empty")}
    print(f"{stage.name:<7}{stage.steps} steps of {stage.batch} clips at {stage.size} px; {told}")

# %% [markdown]
# Zero-shot there is no mask to feed, and one stage, on discs.
#
# ### Your run
#
# As before, it resumes where it stopped, and a finished run is not repeated: delete its folder under `runs` to train anew.

# %% tags=["run"]
torch.manual_seed(0)
folder = RUNS / f"notebook_04_{here.name}"
run = training.train(models.build("rvos", **recipe.options), training.task("rvos"), recipe, seed=0, out=folder)
print(f"{len(run.history)} steps in {run.seconds:.0f} s")

# %% tags=["run"]
window = max(1, len(run.losses) // 40)
whole = len(run.losses) // window * window
smooth = {name: run.column(name)[:whole].reshape(-1, window).mean(1) for name in ("loss", "iou")}
figures.show(
    figures.curves(
        {"loss": smooth["loss"], "IoU of answers and truth": smooth["iou"]},
        "step",
        "",
        x=np.arange(len(smooth["loss"])) * window,
    ),
    "Your training: the loss and the IoU of the answers with the truth over the steps of both stages.",
)

# %% [markdown]
# Where the second stage begins the exam gets harder, so the curve may jump to the worse there.
#
# Does it listen to the mask it was given? The mask-swap test (notebooks 03 and 05) compares its answers for two different objects of one clip: IoU near 0, it does; near 1, it draws what stands out.

# %% tags=["run"]
swapped = evaluation.mask_swap_iou(lambda: rvos.segmenter(run.network), crowd)
print(
    f"mask swap: IoU {swapped:.2f}", "(meaningless after a few steps)" if here.is_smoke else "(should be below 0.2)"
)

# %% tags=["run"]
count = 1 if here.is_smoke else 8
for name in ("clean", "multiple_objects"):
    report = evaluation.evaluate(rvos.segmenter(run.network), sprites.benchmark(count, [name]), "davis2017")
    print(f"{name:<18} J {100 * report.average().J.mean:5.1f}   ({count} clips)")

# %% [markdown]
# ## 11. The reference run
#
# Three trainings by the recipe, with the seeds 0, 1 and 2, and a longer one, which ships; its last stage uses clips that look more like a camera's (`data.clips.lifelike`, see notebook 05). <!-- given --> (The zero-shot network that ships is one of those in section 12.) Each is measured on the whole benchmark: eight clips for each condition, with the protocol of DAVIS-2017. `experiments/rvos.py` does it.

# %% tags=["reference"]
reference = json.loads((RESULTS / "04_rvos.json").read_text())
told = reference["training"]
print(f"recipe: {told['steps']} steps, batch {told['batch']}, {told['size']} px, frames a clip {told['frames']}")
print(f"long: {told['long_steps']} steps; zero-shot: {told['zero_shot_steps']} steps")
print(f"{told['parameters']:,} parameters, zero-shot {told['parameters_zero_shot']:,}")
print("mask swap, IoU of the two outputs:", reference["mask_swap"])

# %% tags=["reference"]
table = reference["benchmark"]
print(
    f"{'J mean, percent':<20}{'copy':>6}{'MaskTrack':>10}{'STM':>7}{'RVOS: three seeds':>22}{'mean':>7}{'long':>7}{'zero':>7}"
)
for condition, row in table.items():
    print(f"{condition:<20}{row['copy first']:6.1f}{row['MaskTrack']:10.1f}{row['STM']:7.1f}", end="")
    print("".join(f"{j:7.1f}" for j in row["RVOS"]) + f"{row['mean']:8.1f}{row['long']:7.1f}{row['zero-shot']:7.1f}")

# %% [markdown]
# (*STM* is the mean of its three short runs, from notebook 05. *zero* is the zero-shot network, which is given nothing; the first mask only chooses which of its slots is meant. It has seen discs only, and the clips here show sprites.)

# %% tags=["reference"]
groups = {
    c: {"copy first": r["copy first"], "MaskTrack": r["MaskTrack"], "RVOS": r["RVOS"], "RVOS, long": r["long"]}
    for c, r in table.items()
}
figures.show(
    figures.bars(groups, "J mean, percent", xlim=(0, 100)),
    "Bars of J for ten conditions and four methods: the copied first mask, MaskTrack, RVOS with three seeds as dots, and the long run of RVOS.",
)

# %% [markdown]
# On clean clips the short recipe stays far behind MaskTrack ({{results/04_rvos.json:benchmark.clean.mean|.1f}} against {{results/04_rvos.json:benchmark.clean.MaskTrack|.1f}}), and with several objects as well ({{results/04_rvos.json:benchmark.multiple_objects.mean|.1f}} against {{results/04_rvos.json:benchmark.multiple_objects.MaskTrack|.1f}}). So does the long run: {{results/04_rvos.json:benchmark.clean.long|.1f}} and {{results/04_rvos.json:benchmark.multiple_objects.long|.1f}}. MaskTrack looks at frame and mask together, at full resolution, once for each object. Here the frame is encoded without any mask, and all that tells the objects apart passes through small maps.
#
# The order turns where the last mask is of little use. With fast motion the short runs reach {{results/04_rvos.json:benchmark.fast_motion.mean|.1f}} against {{results/04_rvos.json:benchmark.fast_motion.MaskTrack|.1f}}, out of view {{results/04_rvos.json:benchmark.out_of_view.mean|.1f}} against {{results/04_rvos.json:benchmark.out_of_view.MaskTrack|.1f}}; the long run {{results/04_rvos.json:benchmark.fast_motion.long|.1f}} and {{results/04_rvos.json:benchmark.out_of_view.long|.1f}}. Something is carried along in h that the mask alone does not have.
#
# The paper's network, at 256 × 448 and after 40 epochs of YouTube-VOS, reaches a J of 63.6 on classes it has seen and 45.5 on others; on DAVIS-2017's test-dev it reaches 48.0 [Ventura et al., CVPR 2019, tables 2 and 4; table 2 by number unverified].
#
# What happens when the object is hidden?

# %% tags=["reference"]
print(f"{'percent':<14}{'':<12}{'J before':>9}{'J after':>9}{'false alarms while hidden':>27}")
for condition, rows in reference["recovery"].items():
    named = [(f"RVOS, {s}", r) for s, r in enumerate(rows["recipe"])] + [("RVOS, long", rows["long"])]
    for name, r in named:
        print(f"{condition:<14}{name:<12}{r['before']:9.1f}{r['after']:9.1f}{r['false_alarms']:27.1f}")

# %% [markdown]
# Look at the last column: in that share of the frames in which there is nothing to be drawn, something is drawn. Section 8 predicted it. The long run had the extra term, and falls silent in about three quarters of these frames.

# %% [markdown]
# ## 12. Three claims
#
# ### Space, time, or both: with masks given
#
# Three trainings of each kind, all of equal length, tested on clips they have not seen. *After* is J after a wall has passed; *last* is the mean of the last five of 24 frames.

# %% tags=["reference"]
one_shot = reference["claims"]["one_shot"]
conditions = list(one_shot["J"]["ST"])
print(f"{one_shot['steps']} steps each, trained on {one_shot['trained_frames']} frames; J, mean of three seeds")
print(f"{'':<4}" + "".join(f"{c[:16]:>18}" for c in conditions) + f"{'after':>8}{'last':>7}{'swap':>7}")
for name, row in one_shot["J"].items():
    values = "".join(f"{np.mean(row[c]):18.1f}" for c in conditions)
    rest = [np.mean(one_shot[k][name]) for k in ("after", "last", "swap")]
    print(f"{name:<4}{values}" + "{:8.1f}{:7.1f}{:7.2f}".format(*rest))

# %% tags=["reference"]
groups = {c: {name: one_shot["J"][name][c] for name in one_shot["J"]} for c in conditions}
figures.show(
    figures.bars(groups, "J mean, percent", xlim=(0, 100)),
    "Bars of J for five conditions and the one-shot networks with space and time, space alone, and time alone; seeds as dots.",
)

# %% tags=["reference"]
figures.show(
    figures.curves(one_shot["curve"], "frame", "J, percent", ylim=(0, 100), height=2.6),
    "J per frame over clips of 24 frames for the three kinds of one-shot networks, with bands from the lowest to the highest seed.",
)

# %% [markdown]
# In the paper, on YouTube-VOS, T is ahead of S, and ST ahead of both: J on seen classes is 54.7 for S, 59.9 for T, and 60.8 for ST [Ventura et al., CVPR 2019, poster]. The gain of space is small on seen classes, and larger on others. The reason is easy to guess: the given
# masks hold the slots apart, so that space has less to do.
#
# At our scale T is as good as ST, and S falls behind: on clean clips S reaches {{results/04_rvos.json:claims.one_shot.mean.S.clean|.1f}}, T {{results/04_rvos.json:claims.one_shot.mean.T.clean|.1f}} and ST {{results/04_rvos.json:claims.one_shot.mean.ST.clean|.1f}}; with several objects {{results/04_rvos.json:claims.one_shot.mean.S.multiple_objects|.1f}}, {{results/04_rvos.json:claims.one_shot.mean.T.multiple_objects|.1f}} and {{results/04_rvos.json:claims.one_shot.mean.ST.multiple_objects|.1f}}. That time helps shows in every column. That space helps on top of it does not show: with several objects, where it should, T is ahead in the mean, and the seeds of each kind lie further apart than T and ST do. To tell would take more seeds, longer runs, and clips with more than three objects.
#
# ### Space, time, or both: with nothing given
#
# The same question zero-shot, among discs. J is measured with the slot of each object fixed on frame 0, and again with slots chosen anew in each frame: the difference is what identity costs. *Overlap* is the IoU of two slots' masks; *gap* the largest difference of their probabilities
# at any pixel; *union* the J of all slots together against all objects together.

# %% tags=["reference"]
zero_shot = reference["claims"]["zero_shot"]
print(f"{zero_shot['steps']} steps each, {zero_shot['slots']} slots, {zero_shot['clips']} clips; mean of three seeds")
columns = ("J", "rematched", "overlap", "union", "switches", "gap")
print(f"{'':<12}" + "".join(f"{c:>11}" for c in columns) + "   J of the seeds")
for name in ("ST", "S", "T released", "T"):
    row = [np.mean(zero_shot[c][name]) for c in columns]
    print(f"{name:<12}" + "".join(f"{v:11.1f}" for v in row[:-1]) + f"{row[-1]:11.4f}   {zero_shot['J'][name]}")

# %% [markdown]
# The gap of T is exactly {{results/04_rvos.json:claims.zero_shot.gap.T.0|.6f}} after a whole training: section 6, once more.
#
# With space, J is {{results/04_rvos.json:claims.zero_shot.mean.ST|.1f}} for ST and {{results/04_rvos.json:claims.zero_shot.mean.S|.1f}} for S; with space in frame 0 only {{results/04_rvos.json:claims.zero_shot.mean.T released|.1f}}, and without it {{results/04_rvos.json:claims.zero_shot.mean.T|.1f}}. Look at T again: the union of its slots fits the union of the discs almost perfectly ({{results/04_rvos.json:claims.zero_shot.union.T.0|.1f}}), and each slot has an IoU of about one half with each disc. It is the second of the two ends that section 6 foresaw: each slot draws *all* objects, 1/n with n = 2. Space is not a guarantee, either. One training of ST and one of S ended with two slots that draw the same disc half of the time (overlap {{results/04_rvos.json:claims.zero_shot.overlap.ST.0|.1f}} and {{results/04_rvos.json:claims.zero_shot.overlap.S.1|.1f}}). We ship the second training of ST, not the first.
#
# Time adds nothing here: S is as good as ST, and whoever chooses the slots anew in each frame gains nothing. The discs have different colours, and a network can order them by what it sees in each single frame. In the paper, on seen classes of YouTube-VOS, ST has 44.7, S 40.8 and T (as released) 37.1 [Ventura et al., CVPR 2019, table 5]: there, too, space is worth more than time when nothing is given.
#
# ### Curriculum against exposure bias
#
# The third prediction. One-shot, ST, equal numbers of steps: true masks only; true masks first and own masks after; own masks from the start. Trained on clips of a few frames, then followed for many more:

# %% tags=["reference"]
curriculum = reference["claims"]["curriculum"]
figures.show(
    figures.curves(
        curriculum["curve"],
        "frame",
        "J, percent",
        ylim=(0, 100),
        spans={"trained": (0, np.max(curriculum["trained_frames"]) - 1)},
    ),
    "J per frame over clips of 48 frames for three trainings: true masks only, own masks after true ones, and own masks from the start. "
    "The stretch that the training clips covered is shaded and is a small part of it.",
)

# %% tags=["reference"]
print(
    f"{curriculum['steps']} steps each, {curriculum['clips']} clips of {curriculum['frames']} frames; J, mean of three seeds"
)
print(f"{'':<22}{'frame 1':>9}{'frame 4':>9}{'frame 16':>9}{'frame 47':>9}{'mean':>8}   last five, each seed")
for name, curve in curriculum["mean_curve"].items():
    at = "".join(f"{curve[t]:9.1f}" for t in (1, 4, 16, 47))
    print(f"{name:<22}{at}{curriculum['mean'][name]:8.1f}   {curriculum['last'][name]}")

# %% [markdown]
# Own masks from the start are the worst everywhere: {{results/04_rvos.json:claims.curriculum.mean_last.own from the start|.1f}} in the last five frames, where both others have more than {{results/04_rvos.json:claims.curriculum.mean_last.truth only|.0f}}. Nothing is learned from noise. Between the other two, little: {{results/04_rvos.json:claims.curriculum.mean_last.truth only|.1f}} with true masks only, {{results/04_rvos.json:claims.curriculum.mean_last.own after truth|.1f}} with own masks after true ones; over all frames {{results/04_rvos.json:claims.curriculum.mean.truth only|.1f}} and {{results/04_rvos.json:claims.curriculum.mean.own after truth|.1f}}. One seed of three has it the other way round in the last frames ({{results/04_rvos.json:claims.curriculum.last.truth only.1|.1f}} against {{results/04_rvos.json:claims.curriculum.last.own after truth.1|.1f}}), and on the clips of the benchmark, which are three times shorter, true masks only are no worse. So the gain of the second stage does not stand out from the seeds here. And the third prediction: in the figure all curves fall from frame 1 on. No training of this length follows an object for 48 frames.
#
# In the paper the second stage adds 2.3 J on seen classes and nothing on others [Ventura et al., CVPR 2019, poster].
#
# ### What is a first mask worth?
#
# Zero-shot against one-shot. The zero-shot networks are given nothing; of the first mask only *which slot* is used. But they were trained on discs, and the one-shot networks on sprites. So look at both worlds: each kind is at home in one of them.

# %% tags=["reference"]
versus = reference["zero_vs_one"]
conditions = list(versus["mean"]["one-shot"])
print(f"{'J mean, percent':<18}" + "".join(f"{c:>18}" for c in conditions))
print(f"{'copy first':<18}" + "".join(f"{versus['copy first'][c]:18.1f}" for c in conditions))
for name, row in versus["mean"].items():
    print(f"{name:<18}" + "".join(f"{row[c]:18.1f}" for c in conditions))

# %% [markdown]
# On the discs, without a mask, the zero-shot networks reach {{results/04_rvos.json:zero_vs_one.mean.zero-shot.discs|.1f}}. The one-shot networks have a mask and have never seen a disc: {{results/04_rvos.json:zero_vs_one.mean.one-shot.discs|.1f}}, and the long one {{results/04_rvos.json:zero_vs_one.mean.one-shot long.discs|.1f}}. Among sprites, several in a clip, it is {{results/04_rvos.json:zero_vs_one.mean.zero-shot.multiple_objects|.1f}} against {{results/04_rvos.json:zero_vs_one.mean.one-shot.multiple_objects|.1f}}, and the copied first mask beats the finders with {{results/04_rvos.json:zero_vs_one.copy first.multiple_objects|.1f}}. So a finder of this size has learned its own world, and a given mask is what carries over to another. Mind the look-alikes (*distractors*, {{results/04_rvos.json:zero_vs_one.mean.zero-shot.distractors|.1f}}): something that nobody asked for moves in these clips. Whoever finds what stands out cannot know which of the two things counts.
#
# A word on *zero-shot* scores in general, the paper's included: the first mask is used to choose which slots count. Whoever only has the video would have to choose by other means.

# %% [markdown]
# ## 13. Look inside
#
# The grid with real masks in it. Choose a cell: its ancestors stay lit, its parents carry the letter of their arrow, and below stand its mask and its hidden states. Then switch to another roll-out of the *same* weights, with arrows cut.


# %%
@torch.no_grad()
def roll(network, frames, masks0=None, slots=3, recurrence="ST", cut=None):
    given = None if masks0 is None else masks0[None]
    moments = list(rvos.unroll(network, frames[None], given, slots, recurrence, forget=() if cut is None else (cut,)))
    hidden = [torch.stack([m.hidden[k][0] for m in moments]) for k in range(4)]
    return Rollout(
        torch.stack([m.probability[0] for m in moments]),
        hidden,
        space="first frame" if recurrence == "T released" else "S" in recurrence,
        time="T" in recurrence,
        mask="from frame 2" if network.one_shot else False,
        cut=cut,
    )


# %% [markdown]
# Six frames of the clip from section 1, every second one, with the masks of frame 0 given:

# %%
from vos_tutorial.course.widgets import RecurrenceGrid, Rollout

some = crowd.frames[:12:2]
asked = some.float() / 255
ways = {"space and time": {}, "space alone": {"recurrence": "S"}, "time alone": {"recurrence": "T"}}
rollouts = {name: roll(trained, asked, first_masks, **how) for name, how in ways.items()}
rollouts["memory cut at frame 3"] = roll(trained, asked, first_masks, cut=3)

# %% tags=["run"]
grid = RecurrenceGrid(
    some,
    rollouts,
    start=(4, 2),
    labels=[f"object {i}" for i in crowd.objects],
    alt="The grid of six frames and three given objects, with masks and hidden states of a trained RVOS",
)
grid

# %% [markdown]
# The same as a still picture:

# %%
figures.show(grid.static_grid(modes=["space and time", "time alone"]), grid.describe())

# %%
figures.show(
    grid.static_cell(),
    "Object three in frame four of the grid: its mask on the frame, its probabilities, and four channels of its hidden state at each of "
    "the four levels.",
)

# %% [markdown]
# One-shot, cutting space changes next to nothing: each slot still has its own last mask. (It is what section 12 has measured.) Cut time, and by frame 5 the masks have wandered off. Now zero-shot, where nothing but space holds the slots apart:

# %%
more_ways = ways | {"space in frame 0 only": {"recurrence": "T released"}, "memory cut at frame 3": {"cut": 3}}
found_by = {name: roll(finder, disc_frames[:12:2], slots=2, **how) for name, how in more_ways.items()}

# %% tags=["run"]
zero_grid = RecurrenceGrid(
    pair.frames[:12:2], found_by, start=(4, 1), alt="The grid of six frames and two slots of a trained zero-shot RVOS"
)
zero_grid

# %%
figures.show(
    zero_grid.static_grid(modes=["space and time", "time alone"]),
    zero_grid.describe() + " With time alone both rows are the same.",
)

# %% [markdown]
# Without space the rows are copies. Try the roll-out with the memory cut at frame 3: from there on the slots must find their objects anew. They find the same ones, since here the colours settle who comes first.

# %%
strict_rows = found_by["time alone"].probabilities  # T N H W
_ = check.equal("time alone: rows 0 and 1", strict_rows[:, 1], strict_rows[:, 0])

# %% [markdown]
# ## 14. Break it
#
# ### An object that leaves
#
# Section 8 said that the published loss teaches no silence. Here an object leaves the picture and comes back. Two networks follow it: yours, trained with the published loss, and the shipped one. Its long training had the extra term from the second stage on.


# %%
def area(ids, object_id=1):
    return 100 * (ids == object_id).float().mean((-2, -1))


# %%
leaving = list(sprites.benchmark(3, ["out_of_view"]))[2]
cured = propagate(models.segmenter("rvos"), leaving.frames, leaving.first_mask)
figures.show(
    figures.contact_sheet(leaving, prediction={"RVOS, shipped": cured}, columns=6),
    "Six frames of a clip in which the object leaves the picture and comes back, with the masks of the shipped RVOS.",
)

# %% tags=["run"]
published = propagate(rvos.segmenter(run.network), leaving.frames, leaving.first_mask)
lines = {"truth": leaving.masks, "yours, published loss": published, "shipped, with the term": cured}
figures.show(
    figures.curves({name: area(ids) for name, ids in lines.items()}, "frame", "area, percent", height=2.2),
    "The area of the true mask, which falls to zero while the object is away, and the areas that your network and the shipped one draw.",
)

# %% [markdown]
# These two differ in more than the loss, so the picture proves nothing.
# For a proof: three trainings with the published loss, three with the extra term, otherwise alike. The area that is drawn while nothing is there, and what the term costs elsewhere:

# %% tags=["reference"]
empty = reference["claims"]["empty"]
print(
    f"{empty['steps']} steps each; weight of the term {empty['weight']}; largest gradient of an empty target: {empty['gradient']}"
)
print(
    f"{'mean of three seeds':<22}{'condition':<14}{'false alarms':>13}{'area':>7}{'of the object':>15}{'J after':>9}"
)
for name in ("without", "with"):
    for condition, seeds in empty["area"][name].items():
        row = [empty[k][name][condition] for k in ("false_alarms", "area", "relative", "after")]
        a, b, c, d = (np.mean(v) for v in row)
        print(f"{name + ' the term':<22}{condition:<14}{a:13.1f}{b:7.2f}{c:15.1f}{d:9.1f}   area: {seeds}")

# %% tags=["reference"]
print(f"{'J, mean of three seeds':<24}" + "".join(f"{c:>18}" for c in empty["J"]["without"]))
for name, row in empty["J"].items():
    print(f"{name + ' the term':<24}" + "".join(f"{np.mean(v):18.1f}" for v in row.values()))

# %% [markdown]
# Out of view, the area that is drawn on nothing goes from {{results/04_rvos.json:claims.empty.mean_area.without.out_of_view|.1f}} to {{results/04_rvos.json:claims.empty.mean_area.with.out_of_view|.1f}} percent of the frame, behind a wall from {{results/04_rvos.json:claims.empty.mean_area.without.occlusion|.1f}} to {{results/04_rvos.json:claims.empty.mean_area.with.occlusion|.1f}}. Without the term two seeds of three flood a good part of the frame, and the third does not; with it none does. In exchange J on clean clips is {{results/04_rvos.json:claims.empty.mean_J.with.clean|.1f}} instead of {{results/04_rvos.json:claims.empty.mean_J.without.clean|.1f}}, less than the seeds differ, and with several objects the same. So the cure works on what it was made for, and its price cannot be seen. It is no cure for finding the object again: after the wall, J is as uncertain as before.
#
# ### Twins that cross
#
# Two objects with the same looks pass each other. In the frame in which they touch no picture says which is which; only the past does. We build such a clip: one sprite, copied, with its path mirrored.


# %%
def crossing(seed):
    scene, t = sprites.describe(seed, split="test"), np.linspace(-1, 1, sprites.LENGTH)
    still = dataclasses.replace(scene.sprites[0], size=np.full_like(t, 0.3), angle=0 * t, bend=0 * t)
    right = dataclasses.replace(still, x=0.62 * t, y=0.06 + 0 * t, object_id=1)
    left = dataclasses.replace(still, x=-0.62 * t, y=-0.06 + 0 * t, object_id=2)
    frames, masks = sprites.render([dataclasses.replace(scene, sprites=[right, left])], 96, split="test")
    return Clip(frames[0], masks[0], name="crossing")


# %%
example = reference["crossing"]["example"] or {"seed": 8_000_000}
twins = crossing(example["seed"])
confused = propagate(models.segmenter("rvos"), twins.frames, twins.first_mask)
figures.show(
    figures.contact_sheet(twins, prediction={"RVOS": confused}, times=[0, 4, 6, 8, 10, 15]),
    "Six frames in which two objects with the same looks pass each other, one in front of the other, with the masks of RVOS.",
)

# %% tags=["reference"]
passing = reference["crossing"]
print(f"{passing['clips']} clips of {passing['frames']} frames, two objects that pass each other in the middle")
rows = list(passing["kept"]["ST"])
print(f"{'percent of the clips: kept, switched, lost':<14}" + "".join(f"{r:>24}" for r in rows))
for method in passing["kept"]:
    values = [[np.mean(passing[k][method][r]) for k in ("kept", "switched", "lost")] for r in rows]
    print(f"{method:<42}" + "".join(f"{'{:.0f}, {:.0f}, {:.0f}'.format(*v):>24}" for v in values))

# %% [markdown]
# The table says how often each method still has the right objects after they passed (*kept*), has exchanged them (*switched*), or neither (*lost*): in the last three frames both must reach a J of 0.3 with the right object, or both with the other.
#
# RVOS hardly ever keeps identical objects apart, and *different* ones never: they are exchanged, or one is lost, in every clip. It is the touching that undoes it. If the paths lie apart, the long run keeps both in {{results/04_rvos.json:crossing.kept.RVOS long.identical but apart.0|.0f}} percent of the clips. The last row says what is missing: STM, which compares with frame 0, keeps all of the different ones. Among identical ones it keeps more than any other method, {{results/04_rvos.json:crossing.kept.STM long.identical.0|.0f}} percent, and yet fewer than half: what looks the same, it cannot tell apart.

# %% [markdown]
# ## 15. Real video
#
# If you have a DAVIS folder (see `data/README.md`), this cell follows real objects.

# %% tags=["run"]
from vos_tutorial.data.davis import DavisFolder, find_davis

root = find_davis()
videos = DavisFolder(root) if root else None
print(f"found {len(videos)} sequences" if videos else "No DAVIS here; see the reference run below.")

# %% tags=["run"]
methods = {"copy first": CopyFirst()} | {m: models.segmenter(m, short_side=128) for m in ("masktrack", "rvos")}
for name in (videos.names if videos else [])[: 1 if here.is_smoke else 3]:
    video = videos[name]
    length = 6 if here.is_smoke else len(video.frames)
    for method_name, follower in methods.items():
        ids = propagate(follower, video.frames[:length], video.first_mask)
        j = metrics.region_similarity(video.masks[:length] > 0, ids > 0)[1:-1].mean()
        print(f"{name:<18}{method_name:<12}J {100 * j:5.1f}")

# %% tags=["reference"]
real = reference["real"]
print(f"three sequences of DAVIS-2016, reduced to {real['size']}; the networks see {real['short_side']} px")
sequences = list(real["J"]["copy first"])
for measure in "JF":
    print(f"\n{measure + ', percent, mean of the seeds':<30}" + "".join(f"{name:>17}" for name in sequences))
    for method, row in real[measure].items():
        print(f"{method:<30}" + "".join(f"{np.mean(row[name]):17.1f}" for name in sequences))

# %% [markdown]
# In the mean of the three sequences the long run reaches {{results/04_rvos.json:real.J.RVOS long run.mean.0|.1f}}, the copied mask {{results/04_rvos.json:real.J.copy first.mean.0|.1f}}, MaskTrack {{results/04_rvos.json:real.J.MaskTrack.mean.0|.1f}}, STM {{results/04_rvos.json:real.J.STM long run.mean.0|.1f}}. So our RVOS, which has seen nothing but sprites, is worse on real video than doing nothing; only on motocross-jump, where the rider soon is elsewhere, it is not. Its last stage, the lifelike clips, helped (before it: {{results/04_rvos.json:real.J.RVOS before lifelike.mean.0|.1f}}), and was not enough. The paper's network starts from a ResNet-101 that knows ImageNet, and learns on thousands of real videos. Three sequences say little about a method, and 128 pixels are few.
#
# With all of DAVIS on disk, `python -m vos_tutorial evaluate rvos --data DIR --year 2017 --out DIR` measures the rest.

# %% [markdown]
# ## 16. At paper scale
#
# On a GPU, the same loop trains the paper's network: ResNet-101 at 256 × 448 in the paper, 256 × 256 here, 10 slots, clips of five frames, batch 4, Adam at 1e-3 for heads and decoder and at 1e-6 for the ResNet; two stages of 20 epochs each. <!-- given --> First, what does it cost? A step back takes about twice as long
# as the step forward.

# %%
gpu = recipes.load("rvos", "gpu")
for stage in gpu.stages:
    n, length = stage.options["slots"], stage.options["frames"]
    with torch.device("meta"):
        f, m = torch.zeros(1, 3, stage.size, stage.size), torch.zeros(1, n, stage.size, stage.size)
        kept = paper.encode(f)
    per_frame = gigaflops(lambda f=f: paper.encode(f)) + gigaflops(
        lambda k=kept, m=m, n=n: paper.frame(k, m, None, n)
    )
    tera = 3 * stage.batch * length * per_frame / 1000
    print(
        f"{stage.name:<8}{stage.steps:>8,} steps of {stage.batch} clips of {length} frames, {tera:.1f} trillion operations each"
    )
    print(f"{'':<8}if a GPU does 50 trillion a second: {stage.steps * tera / 50 / 3600:.1f} hours")

# %% [markdown]
# It starts from ImageNet weights if torchvision can fetch them, and says so if not. For videos of your own (the paper took YouTube-VOS), pass `rvos.task(video=VideoClips(DavisFolder(root)))`; up to ten objects of a clip stay.

# %% tags=["run"]
network = rvos.build("paper") if here.name == "gpu" else None
if network is None:
    sizes_of_stages = ", ".join(f"{s.steps} of {s.batch} clips at {s.size} px ({s.name})" for s in gpu.stages)
    print(f"needs a GPU: steps: {sizes_of_stages}")
else:
    rvos.start_from_imagenet(network)
    training.train(network, training.task("rvos"), gpu, out=RUNS / "rvos_paper")

# %% [markdown]
# The loop first prints the memory it takes and the time that is left. Stop it when you like; it resumes. In a terminal, and on several GPUs: `torchrun --nproc_per_node 4 -m vos_tutorial train rvos --profile gpu`.
#
# No GPU was at hand for this page, so it shows no result of this cell.

# %% [markdown] tags=["exercise-text"]
# ## Exercises
#
# Five functions, each with a question to answer by hand first. Replace the line that raises, run the cell, then run its check. The
# checks know the usual mistakes and say which one you made.
#
# **Exercise 4.1** (5 minutes, easy) Which cells of the grid can influence cell (t, i), directly or through others? Object i hears
# the object before it in the same frame (space) and itself in the frame before (time); `"S"` and `"T"` leave one of the two
# kinds of arrow, strictly. Masks are not fed back here, so think of a zero-shot network. Write `reached(t, i, recurrence, frames, objects)`:
# True at each cell that can influence (t, i), False at the others and at (t, i) itself.
#
# First by hand: how many cells can influence (2, 1) with `"ST"`, with `"S"`, with `"T"`? And does object 2 of frame 1?


# %% tags=["exercise"]
def reached(t, i, recurrence, frames, objects):
    """Frame, object (both from 0), "ST", "S" or "T", size of the grid -> bool [frames, objects]."""
    # solution
    grid = torch.zeros(frames, objects, dtype=torch.bool)
    first_frame = 0 if "T" in recurrence else t
    first_object = 0 if "S" in recurrence else i
    grid[first_frame : t + 1, first_object : i + 1] = True
    grid[t, i] = False
    return grid
    # end solution


# %% tags=["exercise-check"]
_ = check_04.reached(reached)

# %% [markdown] tags=["solution-note"]
# Five, one and two. With both arrows the ancestors are the whole rectangle from (0, 0) to (t, i), because a way may turn as often as it likes. Object 2
# of frame 1 was computed *before* cell (2, 1), and is not among them: no arrow leads from an object to an earlier one, in no frame.
#
# Two remarks. In the authors' released T the walk over the objects is on as long as there is no memory, so in frame 0; then (0, j) with j < i comes on top. And in a
# one-shot network that feeds back its own masks, the mask is an arrow from (t - 1, i) to (t, i) as well: "S" cuts the hidden states
# between frames, but time still comes in through the mask.

# %% [markdown] tags=["exercise-text"]
# **Exercise 4.2** (10 minutes, medium) Write one step of the cell without the library: `cell_step(gates, x, spatial, temporal)`. `gates` is a convolution with
# C + 2D input and 4D output channels, so D is `gates.out_channels // 4`. It hears x, h of the object before, and h of the frame
# before, in this order; its output is cut into four quarters i, f, o, g, in this order. `spatial` is (h, c) of the object
# before, `temporal` is h of the frame before; each may be None, which stands for zeros. Return the new h and the new c.
#
# First by hand: all weights and biases of `gates` are 0, and the old c is 1. What are the new c and the new h?


# %% tags=["exercise"]
def cell_step(gates, x, spatial, temporal):
    """A convolution, x float [B, C, h, w], spatial (h, c) or None, temporal h or None -> h, c, float [B, D, h, w]."""
    # solution
    zeros = x.new_zeros(len(x), gates.out_channels // 4, *x.shape[-2:])
    h_space, c = spatial if spatial is not None else (zeros, zeros)
    h_time = temporal if temporal is not None else zeros
    i, f, o, g = gates(torch.cat([x, h_space, h_time], dim=1)).chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
    # end solution


# %% tags=["exercise-check"]
_ = check_04.cell_step(cell_step)

# %% [markdown] tags=["solution-note"]
# The three gates are sigmoid(0) = 0.5 and the candidate is tanh(0) = 0, so c = 0.5 × 1 + 0.5 × 0 = 0.5 and h = 0.5 × tanh(0.5) = 0.231. Only one line
# knows that there are two directions: the concatenation. The line with c has a forget gate for what the object before left, and nothing for time.
#
# PyTorch's own `nn.LSTM` cuts its gates in the order i, f, g, o. With the wrong order the shapes fit, the numbers are finite, and a network trained
# from scratch learns just as well; only *loaded* weights turn into noise. That is why the equality with the authors' network is tested with numbers, not with shapes.

# %% [markdown] tags=["exercise-text"]
# **Exercise 4.3** (15 minutes, medium) With pencil first. The soft IoU cost of a slot is 1 - Σ q y / (Σ (q + y - q y) + ε), with the sums over all pixels. The
# object has left the picture, so y = 0 at every pixel. What is the cost if the slot draws nothing? If it draws half the picture? What is
# the derivative with respect to one q?
#
# <details><summary>Hint</summary>Put y = 0 into the numerator before you differentiate anything.</details>
#
# Now cure it. Write `slot_cost(logits, target, weight)`: the soft IoU cost of each slot and, *only for slots whose target has no pixel*,
# `weight` times the mean of -log(1 - q) over the pixels, where q is the sigmoid of the logit. The check also looks at the gradient, and one
# of its slots is very sure of itself.


# %% tags=["exercise"]
def slot_cost(logits, target, weight):
    """Logits float [N, H, W], targets float [N, H, W] (0 or 1), weight of the term -> float [N]."""
    # solution
    cost = rvos.soft_iou_cost(logits.sigmoid(), target)
    empty = target.sum((1, 2)) == 0
    silence = F.softplus(logits).mean((1, 2))  # -log(1 - sigmoid(z)) = log(1 + exp(z))
    return cost + weight * silence * empty
    # end solution


# %% tags=["exercise-check"]
_ = check_04.slot_cost(slot_cost)

# %% [markdown] tags=["solution-note"]
# With y = 0 the numerator is a sum of zeros, whatever q is. The cost is 1 - 0 = 1 for a slot that draws nothing, and 1 for a slot that fills the picture. A
# constant has the derivative 0: not a small one, exactly 0 in every weight. So an object that leaves teaches nothing, and nothing stops the slot from painting something else.
#
# The slope of -log(1 - q) with respect to the *logit* is q. It is greatest where the slot is surest of its mistake, and 0 where it is silent already. The mean of
# q would do as well, but its slope is q (1 - q), which fades for q near 1. Adding 1 to numerator and denominator is a third cure one finds in code. Then the cost of an
# empty target is 1 - 1 / (A + 1) for a drawn area A, with the slope 1 / (A + 1)²: a small wrong patch is cleaned, a large one hardly.
#
# In the library the term is the option `empty` of a training stage. By default it is 0, as in the paper.

# %% [markdown] tags=["exercise-text"]
# **Exercise 4.4** (15 minutes, hard) In zero-shot training nobody says which slot has to draw which object. RVOS matches once, on frame 0 of the clip, and keeps to it. What if one
# matched every frame anew? Write `matched(cost, every_frame)`. `cost[t, g, s]` is what object g in slot s costs in frame t.
# `linear_sum_assignment(cost[t])[1]` gives each object its slot, so that the sum of the costs is least. Return three things: the slot of each
# object in each frame; the mean cost of these pairs over all frames and objects; and the number of *id switches*: how often an
# object has another slot than in the frame before.
#
# First by hand, for this made-up clip, in which two objects A and B cross. Each entry is what slot 0 and slot 1 would cost.
#
# | frame | A in 0 | A in 1 | B in 0 | B in 1 |
# |---|---|---|---|---|
# | 0 | 0.2 | 0.8 | 0.9 | 0.3 |
# | 1 | 0.3 | 0.6 | 0.7 | 0.3 |
# | 2 | 0.5 | 0.4 | 0.3 | 0.6 |
# | 3 | 0.6 | 0.3 | 0.2 | 0.7 |
# | 4 | 0.3 | 0.7 | 0.8 | 0.2 |


# %% tags=["exercise"]
def matched(cost, every_frame):
    """Costs float [T, G, S] of object g in slot s, S >= G -> slots long [T, G], mean cost, number of id switches."""
    # solution
    slots = torch.tensor([linear_sum_assignment(frame)[1].tolist() for frame in cost])
    if not every_frame:
        slots = slots[:1].expand(len(cost), -1)
    paid = cost.gather(2, slots[:, :, None])
    switches = (slots[1:] != slots[:-1]).sum()
    return slots, paid.mean().item(), switches.item()
    # end solution


# %% tags=["exercise-check"]
_ = check_04.matched(matched)

# %% [markdown] tags=["solution-note"]
# Frame 0 puts A into slot 0 and B into slot 1. If it decides for all, the mean cost is 0.4 with no switch. Matched anew, frames 2 and 3 exchange
# the two: the mean cost is 0.28, with four switches. This is one of the examples of the check.
#
# The second loss is never larger than the first, as each frame takes the best for itself. And that is the point: it is lower because it forgives what the task is about. A network that exchanges two objects in the middle
# of a clip is not told so, hence nothing in the loss asks it to remember who is who. The fixed assignment *is* the supervision in time. It has a price: if frame 0
# is matched badly, say because an object is hidden there, the whole clip pulls in the wrong direction.
#
# The library's `rvos.assign` has one more rule, the authors': a sample with n objects may use only its first n slots.

# %% [markdown] tags=["exercise-text"]
# **Exercise 4.5** (15 minutes, hard) "Why is time not a proper LSTM?" many readers ask. Make it one. Write `two_memory_step(gates, x, spatial, temporal)`: now `temporal`
# is (h, c), too, and time has a forget gate of its own. `gates` hears the same as before and has 5D output channels: i, f_space,
# f_time, o, g, in this order. The new c is what f_space keeps of the object before, plus what f_time keeps of the frame before, plus what i lets in.
#
# First by hand: by how many per cent do the gate convolutions grow? The paper's decoder has four levels, whose gate convolutions are 3×3 with biases
# and, with masks, map 385, 385, 193 and 97 channels to 512, 256, 128 and 64. How many parameters is that, and what share of the
# network's 49,349,233? What else grows, in a video of many frames?


# %% tags=["exercise"]
def two_memory_step(gates, x, spatial, temporal):
    """A convolution, x float [B, C, h, w], spatial and temporal (h, c) or None -> h, c, float [B, D, h, w]."""
    # solution
    zeros = x.new_zeros(len(x), gates.out_channels // 5, *x.shape[-2:])
    h_space, c_space = spatial if spatial is not None else (zeros, zeros)
    h_time, c_time = temporal if temporal is not None else (zeros, zeros)
    i, f_space, f_time, o, g = gates(torch.cat([x, h_space, h_time], dim=1)).chunk(5, dim=1)
    c = f_space.sigmoid() * c_space + f_time.sigmoid() * c_time + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
    # end solution


# %% tags=["exercise-check"]
_ = check_04.two_memory_step(two_memory_step)

# %% [markdown] tags=["solution-note"]
# Five outputs where there were four, of the same inputs: 25 % <!-- given --> more, weights and biases alike. The four convolutions have 2,940,288 parameters, a quarter of which is 735,072:
# 1.5 % <!-- given --> of the network. The memory that goes from frame to frame doubles, because each slot now hands on h *and* c on all levels. It does not grow with the length of the video.
#
# The new c is a sum of two memories, each scaled by a gate below 1; with both gates near 1 it can still grow from cell to cell, since every cell of the grid is reached by many
# ways and each way adds. tanh keeps h in bounds, but a saturated tanh passes no gradient. One way out is to let the two gates and the input share a softmax. Whether the second memory helps
# on long videos is an experiment, not a theorem: this page did not make it. With the training of this notebook you could, three seeds each.

# %% [markdown] tags=["quiz"]
# ## Quiz
#
# **1.** A zero-shot network with strict T draws ten slots. Why are they the same to the last bit, however long it was trained?
#
# <details><summary>Answer</summary>All slots share one set of weights, see the same frame, and begin with the same zeros. Without a state from the object before nothing tells a slot its number, so all compute the same, in frame 0 and by induction in all later frames. Training cannot help: the gradient changes the shared weights.</details>
#
# **2.** What is handed from frame t to frame t + 1, what is not, and through what does the gradient flow?
#
# <details><summary>Answer</summary>h of every slot on every level, and in a one-shot network each slot's mask. c is not: it goes from object to object and ends with the frame. The gradient flows through h alone; the network's own mask is detached, and a true mask has no gradient.</details>
#
# **3.** All training clips have at most three objects, and at test time you ask for ten slots. Does slot 7 have untrained weights?
#
# <details><summary>Answer</summary>No, slots have no weights of their own. What was never supervised is the situation: a state that seven objects have passed through. What comes out is no object that was learned, and nothing in the loss asked it to be empty.</details>
#
# **4.** A table calls a result zero-shot. Which true masks did it need nevertheless, and where?
#
# <details><summary>Answer</summary>Those of frame 0, in the evaluation: they choose which of the slots count and under which id. The network never saw them. So the number says how well the objects one asks for were found and followed; it says nothing on the slots that were thrown away.</details>
#
# **5.** One-shot, ST: you exchange the numbers of two given objects. May their masks change? And with strict T?
#
# <details><summary>Answer</summary>With ST they may: the object that comes second hears the first, but not the other way round. With strict T each object is computed by itself, so the masks only change places.</details>
#
# **6.** A target mask is empty. What does the soft IoU cost say to a network that draws nothing, and to one that fills the frame?
#
# <details><summary>Answer</summary>The same to both: cost 1, gradient 0. Nobody is told that one of the two is right.</details>
#
# **7.** Ten objects cost RVOS less than half as much again as one. What must be shared for that, and which method of the course shares as much?
#
# <details><summary>Answer</summary>The encoding of the frame, which must not depend on any mask. STM's query encoder is shared in the same way. MaskTrack and RGMP put the mask into the first convolution and cannot share.</details>
#
# **8.** The h of the last frame is an input of all four gates. Then why does one say that the cell does not remember through time as an LSTM does?
#
# <details><summary>Answer</summary>An LSTM carries c, which the forget gate can keep unchanged over many steps. Through time RVOS carries only h, which goes through the gate convolution in each frame and has to be written anew.</details>

# %% [markdown]
# ## Recap
#
# | symbol | shape | what |
# |---|---|---|
# | frame | `B 3 H W` | in [0, 1]; encoded once for all objects |
# | skips | `B C h w`, four of them | coarse first; a convolution each, no ReLU |
# | spatial state | h and c, `B D h w`, at each level | from the object before, in the same frame |
# | temporal state | h only, `B N D h w`, at each level | from the same slot, in the frame before: the memory |
# | last masks | `B N H W` | probabilities; max-pooled to each level; one-shot only |
# | cost table | `B G S` | soft IoU cost of each object in each slot |
# | logits | `B N H W` | each slot judged by itself |
# | probabilities | `O+1 H W` | after soft aggregation, background first |
#
# **What changed since notebook 03.** Objects know of each other: they are drawn in turn, by one network, and each hears what was drawn before. The frame is encoded once. And for the first time nobody has to give a mask.
#
# **What is missing.** All that is remembered of the past is one set of maps for each object, overwritten in each frame, and the last mask. Frame 0 is not looked at again, so what is lost is lost. Notebook 05, STM, keeps the frames themselves. Nothing here has learned *motion*: that is the subject of notebook 06.

# %% [markdown]
# ## References
#
# * C. Ventura, M. Bellver, A. Girbau, A. Salvador, F. Marqués, X. Giró-i-Nieto: RVOS: End-to-End Recurrent Network for Video Object Segmentation. CVPR 2019.
# * A. Salvador and others: Recurrent Neural Networks for Semantic Instance Segmentation. 2017 (RSIS), which walks over the objects of a single image.
# * S. Hochreiter, J. Schmidhuber: Long Short-Term Memory. Neural Computation 1997.
# * X. Shi and others: Convolutional LSTM Network. NeurIPS 2015.
# * H. W. Kuhn: The Hungarian Method for the Assignment Problem. Naval Research Logistics Quarterly 1955.
# * R. J. Williams, D. Zipser: A Learning Algorithm for Continually Running Fully Recurrent Neural Networks. Neural Computation 1989: true outputs as inputs in training.
# * S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer: Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks. NeurIPS 2015: exposure bias and a curriculum.
# * K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition. CVPR 2016.
#
# Network, loss, assignment, training and inference follow the authors' code. Their results are quoted from the project page and the poster. Unverified, because the text of the paper was not at hand: the numbers of its first tables, and its training times. Ours, and not the authors', are: the strict form of "time alone", the extra term for empty masks,
# the mean over frames in the recipe, and soft aggregation where they decide at 0.5 and let the object that fitted best in frame 0 win.
