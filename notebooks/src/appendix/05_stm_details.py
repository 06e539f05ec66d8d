# ---
# jupyter:
#   vos_tutorial: {}
# ---

# %% [markdown]
# # Appendix to 05: details of STM
#
# [← back to 05 STM](../05_stm_key_value_memory.ipynb)
#
# What a user of STM or a reader of its code will want to know, and details beyond the main idea: size and padding, the
# authors' weights, rounding, the light memory encoder, other ways out of the trap, bounded memories, and two more exercises.

# %% tags=["setup"]
import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from vos_tutorial import models
from vos_tutorial.clip import ids_to_onehot
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_05
from vos_tutorial.course.figures import tables
from vos_tutorial.data.worlds import sprites
from vos_tutorial.models import stm
from vos_tutorial.models.official import load_official
from vos_tutorial.places import downloads
from vos_tutorial.propagation import propagate

# %% [markdown]
# ## A. The paper's size
#
# Two ResNet-50s, cut after their third stage, at 1/16 of the resolution. On the device `meta` tensors have a shape but no data, so this
# costs nothing.

# %%
with torch.device("meta"):
    paper, owner = stm.build("paper"), torch.zeros(2).long()  # two objects in one frame
    frame, masks = torch.zeros(1, 3, 480, 854), torch.zeros(2, 480, 854)
    query = paper.encode(frame)
    key, value = paper.memorize(frame, masks, masks, owner)
    logits = paper.segment(query, key[:, :, None], value[:, :, None], owner)

# %%
_ = check.shapes(frame=(frame, "B 3 H W"), query=(query.key, "B 128 h w"), key=(key, "N 128 h w"))
_ = check.shapes(value=(value, "N 512 h w"), logits=(logits, "N 2 H W"))
for name, part in paper.named_children():
    print(f"{name:<16}{sum(p.numel() for p in part.parameters()):>12,} parameters")

# %% [markdown]
# **Padding.** 854 is no multiple of 16. The frame gets five columns of zeros on each side, which are cut off again: 864 / 16 = 54. An
# odd column goes to the right, an odd row to the bottom. <!-- given -->

# %%
mib = (key[0].numel() + value[0].numel()) * 4 / 2**20
print(f"padding (left, right, top, bottom): {query.padding}; {mib:.2f} MiB for each stored frame and object")

# %% [markdown]
# **Where is the work?** Multiplications and additions for one object and for three, with one stored frame:


# %%
def gigaflops(work):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


# %%
table = {}
for n in (1, 3):
    owner, seen = torch.zeros(n, device="meta").long(), torch.zeros(n, 480, 854, device="meta")
    k, v = (torch.zeros(n, c, 1, 30, 54, device="meta") for c in (128, 512))
    table[f"{n} object" + "s" * (n > 1)] = {
        "encode the query": gigaflops(lambda: paper.encode(frame)),
        "read": gigaflops(lambda k=k, v=v, o=owner: v.flatten(2) @ stm.attention(query.key[o], k)),
        "decode": gigaflops(lambda v=v, o=owner: paper.decode(v[:, :, 0], query, o)),
        "memorise": gigaflops(lambda s=seen, o=owner: paper.memorize(frame, s, s, o)),
    }
tables.table(table, rows="GFLOP", decimals=0)

# %% [markdown]
# The read, the new idea, is the cheapest part. The decoder is the most expensive one. Its skip connections come from the query
# frame, which does not know about objects, so we compute them once; the authors' code repeats them for every object.
#
# ## B. The authors' weights
#
# With the authors' weights in it, the paper-size network should give their numbers. `load_official` reads `STM_weights.pth`, the file
# that they released, and renames its tensors.

# %% tags=["run"]
released = downloads() / "STM_weights.pth"
if released.is_file():
    print(f"loaded {sum(p.numel() for p in load_official('stm', released).parameters()):,} parameters")
else:
    print("there is no STM_weights.pth in the data folder; put it there if you have it")

# %% [markdown]
# We had no released weights. We gave both programs, the authors' and ours, the same *random* weights and ran them on three frames with
# two objects, at a size that needs padding. Keys agree within 4e-5, attention within 9e-6, and probabilities
# within 1e-4, except 200 of 46,359 values: pixels that two objects both claim with a probability that rounds to 1. <!-- given -->
#
# ## C. Rounding
#
# Just below 1, the numbers of `float32` lie 6e-8 apart, so close to the clamp of soft aggregation two *neighbours* have very
# different odds. If two objects both claim a pixel, rounding decides how they share it. You will not see it in a mask, but you will when you
# compare two programs to four digits.

# %%
near = torch.tensor([1 - 2**-23, 1 - 3 * 2**-24])
print(
    f"apart by {float(near[0] - near[1]):.1e}; odds", [f"{o / 1e6:.1f} million" for o in (near / (1 - near)).tolist()]
)

# %% [markdown]
# ## D. The distance is a dot product
#
# With one more channel, the squared distance needs no code of its own: $2 q \cdot k - \lVert k \rVert^2$ is the dot product of
# $[q, 1]$ and $[2k, -\lVert k \rVert^2]$. Any fast attention kernel will do.

# %%
random = torch.Generator().manual_seed(5)
q, k = torch.randn(2, 8, 12, generator=random), torch.randn(2, 8, 60, generator=random)
q1 = torch.cat([q, torch.ones(2, 1, 12)], 1)
k1 = torch.cat([2 * k, -k.square().sum(1, keepdim=True)], 1)
by_product = (torch.einsum("nck,ncq->nkq", k1, q1) / math.sqrt(8)).softmax(1)
by_distance = (-torch.cdist(k.transpose(1, 2), q.transpose(1, 2)).square() / math.sqrt(8)).softmax(1)
_ = check.close("the same weights", by_product, by_distance, atol=1e-5)

# %% [markdown]
# ## E. The light memory encoder
#
# What does it save? Multiplications and additions to memorise one frame for its three objects:

# %%
clip = next(sprites.benchmark(1, ["multiple_objects"]))
first = clip.frames[:1].float() / 255
masks, owner = ids_to_onehot(clip.first_mask, clip.objects).float(), torch.zeros(len(clip.objects)).long()
others = (masks.sum(0) - masks).clamp(0, 1)

# %%
for name, light in (("two encoders of one architecture", False), ("light memory encoder", True)):
    network = stm.build(light=light).eval()
    with torch.no_grad():
        seen = network.encode(first)
        with FlopCounterMode(display=False) as counter:
            _, written = network.memorize(first, masks, others, owner, seen)
    print(f"{name:<33}{counter.get_total_flops() / 1e6:4.0f} million, values {list(written.shape)}")

# %% [markdown]
# Less than half the work, and half as many channels per value. STCN does the same at full size: a ResNet-18 for the values beside a
# ResNet-50 for the keys (Cheng et al., 2021).
#
# ## F. Other ways out of the trap
#
# The paper's version, from random weights, ignores its memory in short training (section 7 of the page). Here is all that we tried,
# 320 steps and three seeds each unless the table says otherwise. <!-- given -->

# %% tags=["reference"]
rows = {}
for name, run in tables.stored("05_stm", "trap", "runs").items():
    shown = "shared keys + distance" if name == "both" else name.replace("paper form", "paper's version")
    rows[shown.replace("twins", "same initial weights")] = {
        "steps": run["all steps"], "J clean": run["J"]["clean"], "J multiple objects": run["J"]["multiple_objects"],
        "mask-swap IoU": run["swap"],
    }  # fmt: skip
tables.table(rows, decimals=2)

# %% [markdown]
# * *Distance only*, *shared keys only*: neither is enough alone. No seed passes the mask-swap test (below 0.2).
# * *Warmed up*: for a quarter of its steps the memory encoder learns MaskTrack's task, to refine a mask in its place. The outputs
#   overlap less than without, but no seed passes.
# * *Same initial weights*: both encoders have the same initial weights and compare by distance at first; the penalty for long keys then goes from 1
#   to 0. Their keys agree before training, yet all seeds fail.
# * *From shared keys*: the paper's version, started from a network with shared keys. At first its memory encoder is trained to reproduce the query encoder's
#   keys, and the read compares by distance; both aids fade out, and the last 300 steps are the paper's training and nothing else.
#   It passes. One seed.
# * *Long*: the paper's version from random weights, for {{results/05_stm.json:trap.runs.paper form, long.all steps|,}} steps, as many as *from
#   shared keys* has behind it. After {{results/05_stm.json:trap.runs.paper form, long.earlier.all steps|,}} steps its mask-swap IoU was
#   {{results/05_stm.json:trap.runs.paper form, long.earlier.swap.0|.2f}}, in the end it is
#   {{results/05_stm.json:trap.runs.paper form, long.swap.0|.2f}}: it still fails the test. One seed.
#
# ## G. Bounded memories
#
# On six clips of 96 frames, with the reference network. A limit of four stored frames costs 0.3 of J; dropping the least used frame is no
# better than dropping the oldest. (The column *frames* also counts frame 0 and the previous frame.) <!-- given -->

# %% tags=["reference"]
rules = tables.stored("05_stm", "bounded", "rules")
tables.table({n: {k.replace("cpu_ms", "CPU ms"): v for k, v in r.items()} for n, r in rules.items()}, rows="memory")

# %% [markdown]
# Should a memory refuse frames whose mask is uncertain? Here "certain" means a mean probability of 0.9 inside the mask. It changes next
# to nothing: wrong masks are confident ones. <!-- given -->

# %% tags=["reference"]
kept = tables.stored("05_stm", "memory")
rules = ["every 5", "every 2", "every 2, if certain"]
tables.compare({c: {r: kept[r][c]["J"] for r in rules} for c in kept["first"]})

# %% [markdown]
# ## H. Objects that come later
#
# A second object enters in frame 6, with its mask. The stored frames know nothing of it, and must not be read as evidence that it is absent. So the new
# object reads from frame 6 on, while the first object reads everything.

# %%
one_of_two = torch.where(clip.first_mask == 1, clip.first_mask, 0)
second = {6: torch.where(clip.masks[6] == 2, clip.masks[6], 0)}
later = propagate(models.segmenter("stm"), clip.frames, one_of_two, later=second)
figures.show(
    figures.answer_sheet(clip.frames, {"STM": later}, times=[0, 3, 6, 9, 12, 15]),
    "Six frames. Up to frame 3 only the first object has a mask; from frame 6 on there is a second one.",
    "The second object is given in frame 6.",
)

# %% [markdown]
# ## I. Stills, video, or both
#
# 320 steps each, three seeds. <!-- given --> The differences lie within the spread, except under occlusion, where video alone is ahead, perhaps because
# clips made of stills have no walls. The paper's large gain from both (Oh et al., table 4) does not appear, perhaps because our stills come
# from the same world as our video.

# %% tags=["reference"]
fed = tables.stored("05_stm", "data", "J")
tables.compare({c: {name: row[c] for name, row in fed.items()} for c in fed["both"]})

# %% [markdown]
# ## J. Real video of your own
#
# With DAVIS on disk, `python -m vos_tutorial evaluate stm --data DIR --year 2017 --out DIR` measures all of its sequences.

# %% [markdown] tags=["exercise-text"]
# ## Two more exercises
#
# **Exercise A.1** (10 minutes, medium) Write `l2_scores(q, k)`: minus the squared distance of each query to each cell in memory. Make no
# tensor that is larger than the scores themselves (or than q and k); all differences at once would have C × M × Q numbers.


# %% tags=["exercise"]
def l2_scores(q, k):
    """Query keys float [C, Q], memory keys float [C, M] -> minus the squared distances, float [M, Q]."""
    # solution
    return 2 * k.T @ q - k.square().sum(0)[:, None] - q.square().sum(0)
    # end solution


# %% tags=["exercise-check"]
_ = check_05.l2_scores(l2_scores)

# %% [markdown] tags=["solution-note"]
# |q|² adds the same number to a whole column, so a softmax over the column does not notice it, and neither does top-k. |k|² differs from cell to cell and may never be left out.

# %% [markdown] tags=["exercise-text"]
# **Exercise A.2** (10 minutes, medium) Two objects have the probabilities 0.9 and 0.8 at a pixel. Derive the three shares after soft aggregation by
# hand. Then write `aggregate(alone)` with log-odds and one softmax. Keep p in [1e-7, 1 - 1e-7].


# %% tags=["exercise"]
def aggregate(alone):
    """Probabilities float [O, H, W], each object segmented on its own -> float [O+1, H, W], background first."""
    # solution
    background = (1 - alone).prod(0, keepdim=True)
    p = torch.cat([background, alone]).clamp(1e-7, 1 - 1e-7)
    return (p / (1 - p)).log().softmax(0)
    # end solution


# %% tags=["exercise-check"]
_ = check_05.aggregate(aggregate)

# %% [markdown] tags=["solution-note"]
# The background has 0.1 × 0.2 = 0.02. The odds are 9, 4 and 0.0204, their sum is 13.02, the shares 0.691, 0.307 and 0.0016. <!-- given -->
