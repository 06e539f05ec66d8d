# %% [markdown]
# # 00 Start here
#
# {{pages}}
#
# Somebody outlines an object in the first frame of a video. Find that object in every other frame, pixel by pixel. That is
# *video object segmentation*, VOS, and in this course you build the programs that do it.
#
# To run a cell, click on it and press Shift+Enter. Run the cells from top to bottom. The first one loads what the page needs.
# If it raises `ModuleNotFoundError`, this notebook runs in another Python: in the menu *Kernel*, choose the one into which you
# installed the course.

# %% tags=["setup"]
import torch

from vos_tutorial import doctor, metrics, models, profile
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.course import check, figures
from vos_tutorial.course.exercises import check_00
from vos_tutorial.course.widgets import MaskPlayer
from vos_tutorial.data.worlds import sprites
from vos_tutorial.errors import TutorialError
from vos_tutorial.propagation import propagate

print("ready")

# %%
*_, crowd = sprites.benchmark(7, ["multiple_objects"])  # a clip: frames, and the true masks
given = torch.zeros_like(crowd.masks)
given[0] = crowd.first_mask  # the program is given the masks of frame 0, and nothing else
stm = models.segmenter("stm")  # a trained network
answer = propagate(stm, crowd.frames, crowd.first_mask)  # its masks for all frames
figures.show(
    figures.loop(crowd.frames, {"given": given, "STM": answer}, crowd.masks),
    "A clip twice. In the first, a green star, a yellow and black chequered shape and a grey-blue blob are tinted in frame 0, "
    "green, blue and orange, and only outlined in white afterwards. In the second they stay tinted in every frame, while the "
    "chequered shape passes in front of the blob. From frame 8 on the blob's mask grows over the background, and in frame 15 it "
    "fills a corner of the picture.",
    "Given: three masks, in frame 0 only. STM: what it finds from them. A fill tints its object; the objects themselves do not "
    "change colour. The white line is the truth; colour outside it is a mistake, like the orange patch of the last frames.",
)

# %% [markdown]
# You just watched a network with {{results/05_stm.json:training.parameters|,}} parameters, small enough for a laptop. It is called STM, for
# *space-time memory*, and you build it in notebook 05. Its weights come with the course; we trained it on clips like this one. This clip is the
# seventh of our eight test clips with several objects, and an average one: on all eight, STM's masks score
# {{results/05_stm.json:benchmark.multiple_objects.long|.0f}} % on average. The score is J: the area that a mask shares with the true
# one, divided by the area that both cover together. You build it in notebook 01.
#
# **You only want masks for your own video?** Go to [notebook 09](09_your_own_video.ipynb) now; this page is all you need to use it.

# %% [markdown]
# ## Why anyone needs this
#
# * **Film.** To put an actor in front of another background, somebody has to separate the actor from the old one in every
#   frame. By hand this is called *rotoscoping*, and it is slow.
# * **Medicine.** A heart in an ultrasound video, or a cell under a microscope, has to be measured in every frame, not in one.
# * **Robots.** An arm that was shown a cup must still know which cup is meant after a hand has passed in front of it.
#
# Today's systems, such as [SAM 2 (Ravi et al., 2024)](https://arxiv.org/abs/2408.00714), take a click instead of a mask and
# have learned from tens of thousands of videos. Inside, they too keep a memory of past frames. You can take that idea apart
# here, at a size that trains in minutes.
#
# ## You will learn
#
# * what a clip and a mask are in memory, and how to look at them;
# * how an exercise works, and what a check tells you;
# * what your machine can do;
# * where each page of the course leads.
#
# **What you should know.** You write Python without looking up loops and functions, and you have trained a network in
# PyTorch before, as in a first course on deep learning: you know what a convolution, a loss and a gradient step are. You
# need to know nothing about video.
#
# ## Run card
#
# Every page has a card like this one.
#
# | | |
# |---|---|
# | to read and do | about 32 minutes, of which 10 for the exercises |
# | to run | {{results/run_cards.json:00_start_here.cpu.cpu_seconds|.0f}} s of CPU time, peak memory {{results/run_cards.json:00_start_here.cpu.peak_mib|,}} MiB |
# | you need | this installation; no download, no GPU |
#
# Reading times are estimates; the ten pages add up to about 22 hours. Running time and memory are measured. *CPU time* is what
# the processor works. A clock shows about as much if one core is free, and more if other programs run.

# %% [markdown]
# ## 1. Your first clip
#
# A {{term:clip}} is a short video with the masks of its objects. Ours are drawn by a program: you choose what makes the clip hard, and
# since the program knows where it drew each object, the masks are exact. In the next cell, 3 is the {{term:seed}}: the same seed gives the same
# clip on every machine.

# %%
clip = sprites.make_clip(3, length=24, attributes=("multiple_objects", "occlusion"), split="test")
_ = check.shapes(frames=(clip.frames, "T 3 H W"), masks=(clip.masks, "T H W"))

# %% [markdown]
# The line names the axes and prints their sizes: `T` frames in time, three colours, height `H` and width `W` in pixels. These
# letters mean the same on all pages; `B` is a batch, `O` counts objects, `C` channels, and `h w` the cells of a coarser grid.
#
# We compare two methods. The simplest one, *copy first*, repeats the first mask in every frame. The other one is STM.

# %%
answers = {"copy first": propagate(CopyFirst(), clip.frames, clip.first_mask)}
answers["STM"] = propagate(stm, clip.frames, clip.first_mask)

# %% [markdown]
# Now look at them. Press **Play**, or click on the picture and use the arrow keys; the space bar also plays. **View**
# switches between the truth, each method, and each method's errors. The strip under the slider shows J, frame by frame.
# (In a page without a kernel you see ten frames: STM's masks are filled, the white line is the truth.)
#
# **One question.** STM does badly in two frames. Which, and what do they have in common?

# %% tags=["run"]
MaskPlayer(
    clip,
    pred=answers,
    view="STM",
    stills=range(10),
    alt="Two objects behind a passing wall, with STM's masks filled, the truth as a white line, and J of every frame as bars",
)

# %% [markdown]
# <details><summary>Answer</summary>Frames 3 and 7. In both, hardly anything of an object can be seen: in frame 3 a strip of object 1
# that is about to vanish behind the wall, in frame 7 the first strip of object 2 that comes out. In frame 9 both objects are
# found again.</details>
#
# Copied masks, in contrast, stay where they were while the objects move on:

# %%
figures.show(
    figures.answer_sheet(clip, answers, times=[0, 5, 10, 16, 23]),
    "Five frames in two rows. A dark wall crosses a green scene and hides two objects, which are at other places afterwards. "
    "The copied masks stay in their old places to the end. STM's masks are empty in frame 5, behind the wall, and fit both "
    "objects in the later frames.",
    "The same clip to its end. Copied masks stay behind; STM finds both objects after the wall, and keeps them.",
)

# %% [markdown]
# ## 2. A mask, and your first exercise
#
# A {{term:mask}} holds one number for each pixel, the *id* of what is there. 0 is background, 1 to 254 are objects, and 255 is
# {{term:void}}: whoever drew the mask could not tell what is there.

# %%
rows = [
    [0, 0, 0, 0, 2, 2],
    [0, 1, 1, 0, 2, 2],
    [0, 1, 1, 255, 2, 2],
    [0, 0, 0, 0, 0, 0],
]
mask = torch.tensor(rows, dtype=torch.uint8)
print("shape", list(mask.shape), "values", mask.unique().tolist())

# %% [markdown]
# A {{term:check}} compares your answer with the right one, and says where they differ. It is called as
# `check.equal(name, yours, expected)`: what to print, your answer, the right one. How many pixels does object 2 have? Count them in the
# mask above, then let the check compare.

# %%
_ = check.equal("pixels of object 2", int((mask == 2).sum()), 6)

# %% [markdown]
# The next answer is wrong on purpose: it treats everything except object 1 as background. A check that fails does not
# stop the page.

# %%
_ = check.equal("background", mask != 1, mask == 0)

# %% [markdown]
# The line names the first pixel that differs (row 0, column 4: object 2) and counts all of them: six pixels of object 2, and
# the void pixel.

# %% [markdown] tags=["exercise-text"]
# **Exercise 0.1** (5 minutes, easy) Write `count_objects(mask)`: how many objects does a mask hold? Replace the `raise`
# line with your code, run the cell, then run the check below it. The check recognises the common mistakes and tells you which one
# you made.
#
# <details><summary>Hint 1</summary>Two of the values that a mask may hold are not objects.</details>
# <details><summary>Hint 2</summary><code>mask.unique().tolist()</code> lists each value once.</details>


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
# `unique` lists each value once; without 0 and 255, the ids of objects are left. The largest id would not do: after
# object 2 has left the picture, a mask may hold the ids 1 and 3 only.

# %% [markdown]
# ## 3. What your machine can do
#
# `doctor` looks at your machine. If something needs fixing, type `python -m vos_tutorial doctor` in a terminal: it prints all
# findings, with a fix for each problem.

# %% tags=["run"]
found = doctor.findings()
for finding in found:
    if finding.name in ("CPU cores", "memory", "disk", "devices"):
        print(f"{finding.name:<12}{finding.value}")
print("to fix:", ", ".join(finding.name for finding in found if finding.level == "problem") or "nothing")

# %% [markdown]
# The same page runs on a laptop and on a large GPU. A {{term:profile}} sets the numbers (training steps, picture size, batch)
# and never changes the code.
#
# `cpu` is for laptops, and run cards say what it costs. `gpu` adds the papers' own sizes.

# %% tags=["run"]
here = profile.current()
print(here.name, "on", here.device)

# %% [markdown]
# Without a GPU you get `cpu`, with one `gpu`. Then the section *At paper scale* of notebooks 02 to 06 ends with a cell that trains the
# paper's network for hours or days, as soon as you run it, and notebook 07 trains for longer. All else has the same size. To leave this out, set the
# environment variable `VOS_TUTORIAL_PROFILE=cpu` before you start JupyterLab. (We had no GPU to try it on.)

# %% [markdown]
# ## 4. How to read the pages
#
# The pages come with stored outputs, so you can read them without running anything. When you run a cell yourself, will you get
# the same output? That depends on what it does.
#
# * Most cells show shapes, small numbers and pictures. **Your output should equal ours.**
# * Cells that train, measure time or show a widget **give something else on your machine**. In those, compare the order of
#   magnitude, not the digits.
# * Tables and curves that are read with `tables.stored(...)` **show runs that we made before**, often much longer than yours will be. You see
#   your run beside them.
#
# **When something is impossible**, the library raises a `TutorialError`: one sentence that says what is wrong and how to fix
# it. It is the last line of the traceback. Here we catch it and print the sentence:

# %%
try:
    sprites.make_clip(3, attributes=("rain",))
except TutorialError as error:
    print(error)

# %% [markdown]
# The last exercise needs STM's J on a clip as one number:


# %% tags=["run"]
def overlap(clip):
    """J of STM in percent, averaged over frames and objects; frame 0 and the last do not count (the DAVIS rule)."""
    masks = propagate(stm, clip.frames, clip.first_mask)
    scores = metrics.score_objects(clip.masks, masks)
    return 100 * sum(s.summary.J.mean for s in scores) / len(scores)


print(f"{overlap(clip):.0f}")

# %% [markdown] tags=["exercise-text"]
# **Exercise 0.2** (5 minutes, easy, experiment) The error message above lists ten things that can make a clip hard. Which
# one, on its own, is hardest for STM? Guess. Then measure it with `overlap`, on clips of 24 frames with seed 3. Finally take seed 5 instead of 3.
# Does your conclusion hold?
#
# <details><summary>Hint</summary>Make a clip as in section 1, with <code>attributes=(word,)</code>, for each <code>word</code> in
# <code>sprites.ATTRIBUTES</code>.</details>
# <details><summary>Where the answer lies</summary>With seed 3, distractors (a look-alike) are hardest, with a J of about 70; the other
# nine lie between 88 and 98. With seed 5, several objects are hardest, with about 51, and distractors reach 95. So one clip tells you
# about that clip. The benchmark of notebook 01 has eight for each condition.</details>

# %% [markdown] tags=["solution-note"]
# ```python
# for word in sprites.ATTRIBUTES:
#     clips = [sprites.make_clip(seed, length=24, attributes=(word,), split="test") for seed in (3, 5)]
#     print(word, [round(overlap(clip)) for clip in clips])
# ```
#
# | what makes it hard | seed 3 | seed 5 |
# |---|---|---|
# | deformation | 88 | 97 |
# | scale change | 96 | 92 |
# | fast motion | 93 | 97 |
# | occlusion | 91 | 90 |
# | distractors | 70 | 95 |
# | appearance change | 97 | 96 |
# | illumination | 92 | 97 |
# | out of view | 98 | 92 |
# | camera shake | 91 | 97 |
# | multiple objects | 93 | 51 |

# %% [markdown] tags=["quiz"]
# ## Quiz
#
# **1.** Your training run ends at a different number from the one on the page. Is something broken?
#
# <details><summary>Answer</summary>No. Training results and timings depend on the machine. Shapes, small examples and checks should
# agree.</details>
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
# Each method page takes the same path: see what the method is good for, work its idea out by hand, build the network and its
# training, compare your run with ours, look inside, and break it. We also show what did not work. Words that you
# do not know are in the [glossary](glossary.md); shapes and losses of all methods are on one
# [sheet](cheat_sheet.md).

# %% [markdown]
# ## Recap
#
# * A clip holds frames, and masks of ids: 0 background, 1 to 254 objects, 255 void.
# * A check says whether your answer is right, and where it differs; an exercise has hints and a solution in a
#   [notebook of its own](solutions/00_start_here.ipynb).
# * The profile sets sizes, never the code.
#
# **Next.** How good is a mask? [Notebook 01](01_task_and_metrics.ipynb) measures it.
