# ---
# jupyter:
#   vos_tutorial: {}
# ---

# %% [markdown]
# # Appendix to 08: details of the comparison
#
# [← back to 08 All methods, side by side](../08_comparison.ipynb)
#
# How to hand masks in to the server of a test set, what STCN and XMem change in STM, and a cell that puts Cutie into the page's tables.

# %% tags=["setup"]
import contextlib
import io
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from vos_tutorial import comparison, submission
from vos_tutorial.clip import object_ids
from vos_tutorial.comparison import Entry
from vos_tutorial.course.compare import main as compare
from vos_tutorial.course.figures import tables
from vos_tutorial.data.davis import DavisFolder, write_davis
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.places import RESULTS

# %% [markdown]
# ## A. Handing results in
#
# For test sets, nobody but the organisers has the truth. You hand in a folder of masks. `compare --submit` writes one for each method, in the form that DAVIS or
# YouTube-VOS asks for, and checks it. We make a tiny data set to try it on. (`compare` is the function behind the command; what it prints is not shown here.)

# %%
root = Path(tempfile.mkdtemp())
write_davis(root / "DAVIS", list(benchmark(1, ["clean", "multiple_objects"])))
out = root / "out"
data = ["--data", str(root / "DAVIS"), "--year", "2017"]
with contextlib.redirect_stdout(io.StringIO()):
    compare([*data, "--methods", "colour-memory", "--submit", "--out", str(out)])
print(*sorted(str(file.relative_to(out)) for file in out.glob("colour-memory/*/0000[01].png")), sep="\n")

# %% [markdown]
# The check reports at once what a server would reject after an hour in the queue:

# %%
(out / "colour-memory" / "clean-0" / "00003.png").unlink()
print(submission.problems(DavisFolder(root / "DAVIS", 2017), out / "colour-memory"))

# %% [markdown]
# The check guarantees only that the folder can be read. Look up the current server before you rely on one: CodaLab, where many of them ran, took no submissions after 2025.

# %% [markdown]
# ## B. From STM to STCN and XMem
#
# **STCN** (Cheng, Tai, Tang, 2021) changes two things.
#
# * *The keys do not see the mask.* STM's memory encoder reads frame and mask together, once for each object, so that each object has its own keys and its own affinity. In STCN frame and mask part ways: one encoder makes the key of a frame,
#   whether it is stored or asked, and a second, light one makes the values, which do see the mask. With keys of the frame alone, the affinity between two frames is the same for all objects. It is computed once, and what one object needs more is only its values.
# * *Distance instead of dot product.* A key of large norm wins every dot product. With the negative squared distance as affinity, every stored place is the nearest to queries like itself, so each has its chance.
#
# In notebook 05 you built both (sections 2 and 7), because the small network does not learn without them.
#
# **XMem** (Cheng, Schwing, 2022) asks what to do when the video does not end. STM and STCN store every fifth frame, so memory grows, and so does the time of a read. XMem has three stores, after a model of human memory.
#
# * *Sensory memory*: a recurrent state of each object, updated in every frame, as in notebook 04.
# * *Working memory*: keys and values of a few recent frames at full resolution, as in notebook 05.
# * *Long-term memory*: when the working memory is full, a few *prototypes* of it move here: the places that were read most. Each takes along a weighted mean of the values that resemble it. When this store is full too, the least used prototypes go.
#
# Your `evict` (exercise 5.2) decides by the same measure, usage, but drops whole frames. XMem drops places, and before a place goes, what it held is averaged into the prototypes.

# %% [markdown]
# ## C. Cutie on our clips
#
# If you have `rf-cutie` and a GPU, the next cells put Cutie beside the stored runs, on twenty clips. (We have run them with a stand-in only, not with Cutie. They download Cutie's weights.)

# %%
twenty = list(benchmark(2))
few = comparison.read(RESULTS / "08_runs.json").only([clip.name for clip in twenty], ["MaskTrack", "RGMP", "STM"])

# %% tags=["run"] name="cutie"
if find_spec("cutie") and torch.cuda.is_available():
    from cutie.inference.inference_core import InferenceCore
    from cutie.utils.get_default_model import get_default_model

    network = get_default_model()

    class Cutie:
        def begin(self, frame, mask):
            self.core = InferenceCore(network, cfg=network.cfg)
            self.core.step(frame.cuda(), mask.cuda(), objects=object_ids(mask))

        def step(self, frame):
            return self.core.step(frame.cuda()).cpu()  # K+1 H W

    newer = comparison.compare([Entry("Cutie", Cutie)], twenty, before=few)
    print(*newer.gaps(), tables.compare(newer.by_attribute(), mean=False), sep="\n")
else:
    print("This cell needs an NVIDIA GPU and Cutie: pip install 'rf-cutie[inference]'")
