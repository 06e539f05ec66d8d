# %% [markdown]
# # 00 Start here
#
# **Promise.** After this notebook you know that your machine works, and you can read the other nine: what a run
# card, a check, a widget and an exercise are.
#
# The task of the whole course in one sentence: *somebody gives you the mask of an object in the first frame of a
# video; find its mask in every other frame.* It is called (semi-supervised) video object segmentation, VOS.

# %% [markdown]
# ## Run card
#
# Every notebook opens with a card like this one. Times and memory were measured.
#
# | | |
# |---|---|
# | to read and do | about 20 minutes |
# | to run | {{results/run_cards.json:00_start_here.cpu.cpu_seconds|.0f}} s of processor time ({{results/run_cards.json:00_start_here.cpu.cores}} CPU cores), peak memory {{results/run_cards.json:00_start_here.cpu.peak_mib}} MiB |
# | you need | this installation, nothing else: no download, no GPU |
# | afterwards you can | 1. say which profile your machine uses, 2. read a check, 3. scrub a clip in a widget, 4. solve an exercise |
#
# To run a cell, click on it and press Shift+Enter. Run them from top to bottom.

# %% [markdown]
# ## Set-up
#
# The first code cell imports what the notebook needs. If it says `ready`, the installation is complete.

# %% tags=["setup"]
import torch

from vos_tutorial import doctor, profile
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_00
from vos_tutorial.course.widgets import MaskPlayer
from vos_tutorial.data.worlds.sprites import make_clip
from vos_tutorial.errors import TutorialError
from vos_tutorial.propagation import propagate

print("ready")

# %% [markdown]
# ## Your machine
#
# `doctor` looks at versions, memory, disk and GPU. Here is its part about the machine, and the list of what does
# not work yet. For the full page with a fix for each problem, type `python -m vos_tutorial doctor` in a terminal.

# %% tags=["run"]
found = doctor.findings()
for finding in found:
    if finding.name in ("CPU cores", "memory", "disk", "devices", "profile"):
        print(f"{finding.name:<12}{finding.value}")
print("to mend:", ", ".join(finding.name for finding in found if finding.level == "problem") or "nothing")

# %% [markdown]
# ## The profile: three sizes, one code
#
# The same notebook runs on a laptop and on a large GPU. A *profile* sets the numbers (steps, picture size, batch,
# width) and never changes the code.
#
# | profile | for | a notebook takes |
# |---|---|---|
# | `smoke` | automatic tests; the numbers it produces mean nothing | less than a minute |
# | `cpu` | a laptop | minutes |
# | `gpu` | the sizes of the papers | as long as its run card says |
#
# With a GPU you get `gpu`, without one `cpu`. To choose yourself, set the environment variable
# `VOS_TUTORIAL_PROFILE` before you start JupyterLab.

# %% tags=["run"]
here = profile.current()
print(here.name, "on", here.device)

# %% [markdown]
# ## Three kinds of cells
#
# The pages you read show stored outputs. What you may expect when you run a cell yourself depends on its kind.
#
# * **Checked** cells show shapes, whole numbers and claims. Your output equals the stored one, on every machine.
#   A test compares them, so you can rely on it.
# * **Run** cells train, measure time, or show widgets. Your output differs from the stored one. The two cells above
#   are of this kind: your machine is not ours. They carry the tag `run`; JupyterLab shows the
#   tags of a cell in the property inspector (the gears at the top right).
# * **Reference** cells print the results of a long run whose numbers are stored with the course. You compare your run
#   with them. You meet the first ones in the next notebooks.
#
# A checked cell: here is a mask, the way DAVIS, the most used benchmark, stores it. There is one number, the *id*,
# for each pixel. 0 is background, 1 to 254 are objects, and 255 is *void*: the annotator could not say.

# %%
mask = torch.tensor(
    [[0, 0, 0, 0, 2, 2],
     [0, 1, 1, 0, 2, 2],
     [0, 1, 1, 255, 2, 2],
     [0, 0, 0, 0, 0, 0]], dtype=torch.uint8)  # fmt: skip
print("shape", list(mask.shape), "values", mask.unique().tolist())

# %% [markdown]
# ## Checks
#
# You will write many small functions. A *check* tells you in one line whether your result is right, and if not,
# where it differs. How many pixels does object 2 have? Count them in the mask above, then let the check count.

# %%
my_count = int((mask == 2).sum())
_ = check.equal("pixels of object 2", my_count, 6)

# %% [markdown]
# A check does not stop the notebook. This one has a wrong answer on purpose: it takes everything that is not object 1
# for background.

# %%
my_background = mask != 1
_ = check.equal("background", my_background, mask == 0)

# %% [markdown]
# The line names the first pixel that differs (row 0, column 4: object 2) and how many differ in all: the six pixels
# of object 2 and the void pixel.
#
# Shapes are the most common source of mistakes, so they have a check of their own. It prints the letters of the
# axes next to the sizes. The letters mean the same in all notebooks: `B` batch, `T` time, `O` objects, `C`
# channels, `H W` pixels, `h w` cells of a coarser grid.

# %% [markdown]
# ## A first clip
#
# A *clip* holds the frames of a short video and their masks. This one was drawn by the program a moment ago.
# `make_clip` takes a seed and a list of what should make the clip hard; the masks are exact, since the program
# knows where it drew each object.

# %%
clip = make_clip(3, length=24, attributes=("multiple_objects", "occlusion"))
_ = check.shapes(frames=(clip.frames, "T 3 H W"), masks=(clip.masks, "T H W"))

# %% [markdown]
# The same seed gives the same clip, bit by bit, so results can be repeated.

# %%
again = make_clip(3, length=24, attributes=("multiple_objects", "occlusion"))
_ = check.equal("the second clip", again.frames, clip.frames)

# %% [markdown]
# Every picture of the course comes with a sentence that says what is to be seen, for readers who do not see it.

# %%
figures.show(
    figures.contact_sheet(clip),
    "Six frames of one clip. Two outlined objects move over a patterned ground; a wide bar passes in front of "
    "them, hides both, and moves on.",
)

# %% [markdown]
# ## A widget
#
# Six frames are not a video. `MaskPlayer` shows all of them: press **Play**, or click on the picture and use the
# arrow keys (Left and Right: one frame, Space: play). The box **View** switches between what there is to see. The
# widget works in your browser, also while a cell is running.
#
# Give it something to show: the simplest method there is. It copies the first mask to every frame. Choose the view
# *copy first: error* and watch how it fails: what it misses and where it raises a false alarm have different colours
# and patterns. Mending this is what the rest of the course is about.

# %% tags=["run"]
copied = propagate(CopyFirst(), clip.frames, clip.first_mask)
MaskPlayer(clip, pred={"copy first": copied}, alt="A clip with two objects and the first mask copied to every frame")

# %% [markdown]
# Where no widget can run (on a web page that only displays the notebook, on paper) you see a few still frames
# instead.

# %% [markdown]
# ## Errors
#
# When you ask for something impossible, the library raises a `TutorialError`: one sentence that names the thing and the
# fix. Here we catch it and print the sentence. If you do not, it is the last line of what Jupyter shows. Ask for the
# attribute `rain`:

# %%
try:
    make_clip(3, attributes=("rain",))
except TutorialError as error:
    print(error)

# %% [markdown] tags=["exercise-text"]
# ## Exercises
#
# Notebooks contain functions with a gap: they raise `NotImplementedError("your turn")`. Replace that line, run the
# cell, then run the check below it. If you are stuck, the check has a hint; it also recognises common mistakes and
# says which one you made. The solutions are in the folder `solutions`.
#
# **Exercise 0.1** Write `count_objects(mask)`: how many objects does a mask hold? The mask is a tensor of ids, as
# above. Remember which two values are not objects.


# %% tags=["exercise"]
def count_objects(mask):
    """The number of objects in a mask of ids [H, W]."""
    # solution
    values = set(mask.unique().tolist())
    return len(values - {0, 255})
    # end solution


# %% tags=["exercise-check"]
_ = check_00.count_objects(count_objects)

# %% [markdown] tags=["solution-note"]
# `unique` lists each value once; taking 0 and 255 out leaves the ids of objects. The largest id would not do: after
# object 2 has left the picture, a mask may hold the ids 1 and 3 only.

# %% [markdown] tags=["quiz"]
# ## Quiz
#
# **1.** You run a cell tagged `run`, and your number differs from the stored one. Is something broken?
#
# <details><summary>Answer</summary>No. Run cells depend on the machine. Only checked cells repeat exactly.</details>
#
# **2.** A mask has the values 0, 1, 4 and 255. How many objects does it hold?
#
# <details><summary>Answer</summary>Two: ids 1 and 4. 0 is background, 255 is void, and ids may have gaps.</details>
#
# **3.** A clip has `frames` of shape `T 3 H W` = 24 3 96 96. What shape do its masks have?
#
# <details><summary>Answer</summary><code>T H W</code> = 24 96 96: one id for each pixel of each frame.</details>

# %% [markdown]
# ## The map of the course
#
# {{course}}
#
# Each method notebook (02 to 07) follows the same path: see the last method fail, build the new one in small steps,
# train it, compare with a reference run, look inside, break it, and solve exercises.

# %% [markdown]
# ## Recap
#
# * `doctor` says whether the machine is ready; the profile says how large everything is.
# * Checked cells repeat exactly, run cells do not, reference cells print stored results.
# * A mask holds ids: 0 background, 1 to 254 objects, 255 void.
# * A clip holds `frames` (`T 3 H W`) and `masks` (`T H W`).
