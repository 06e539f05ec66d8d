"""The words of the field that the course uses, each explained once: ``notebooks/glossary.md``."""

from __future__ import annotations

from collections.abc import Mapping

#: Entry -> what it means, in Markdown. Entries are lower case and singular; links go to other entries.
GLOSSARY: dict[str, str] = {
    "ablation": (
        "Leaving out one part of a method, then training and measuring anew, to see what the part is worth. The "
        "answer depends on how long the networks were trained."
    ),
    "adversarial loss": (
        "What a generator pays when a [discriminator](#discriminator) tells its pictures from real ones. The two are "
        "trained against each other: a generative adversarial network, GAN."
    ),
    "affinity": (
        "How well a query cell and a cell in memory match: a score for each pair, by dot product or by distance. "
        "Softmax over the memory turns scores into [attention](#attention)."
    ),
    "annotation": (
        "A mask that a person drew, or checked. In this course's generated clips the program draws it, exactly."
    ),
    "assignment": (
        "Which [slot](#slot) belongs to which object, when nobody says so: the choice with the lowest total cost, "
        "which the Hungarian method finds."
    ),
    "attention": "Weights that sum to one and say how much each row of a memory contributes to what is read.",
    "attention gate": (
        "In STCNN's decoder: a coarse mask that says where a finer level may change what it was given. It has no "
        "queries and keys, and so is not [attention](#attention)."
    ),
    "attribute": (
        "What makes a clip hard, in a word: occlusion, fast motion, a change of light. Scores by attribute say where "
        "a method fails; one average does not."
    ),
    "auc": (
        "The area under the ROC curve. Take a good frame and a failed one: in what share of such pairs does a "
        "measure of confidence rank the good one higher? 1 is perfect, 0.5 is a coin, and below 0.5 the measure is "
        "reversed."
    ),
    "autoguidance": (
        "[Guidance](#guidance) away from a weaker version of the same network: smaller, or less trained. It moves a "
        "sample away from errors, not away from other classes."
    ),
    "back-propagation through time": (
        "Training through several frames at once: the loss of a later frame sends its gradient back through the "
        "answers for earlier ones; BPTT for short."
    ),
    "baseline": "The simplest method that one could use. A score says little until you know what a baseline reaches.",
    "benchmark": "A fixed set of clips with true masks and a [protocol](#protocol), so that methods can be compared.",
    "boundary accuracy": (
        "F. How well two outlines agree, within a [tolerance](#tolerance): the harmonic mean of "
        "[precision](#precision) and [recall](#recall) of the outline. J&F is the mean of F and "
        "[J](#region-similarity)."
    ),
    "bootstrap": (
        "A way to say how sure a mean is: draw as many values as there are, with replacement, take their mean, and "
        "repeat. The middle 95 % of these means is the interval. It knows of other clips, not of other trainings."
    ),
    "check": (
        "A line of a page that compares your answer with the right one, and says where they differ. It never stops "
        "the page."
    ),
    "classifier-free guidance": (
        "[Guidance](#guidance) away from what the network would do without its label or prompt; CFG for short."
    ),
    "clip": "A short video with the masks of its objects: `frames` of shape `T 3 H W`, `masks` of shape `T H W`.",
    "closed loop": (
        "A method runs on its own output: the mask it predicted for one frame is its input for the next. Errors "
        "can pile up. Opposite: [open loop](#open-loop)."
    ),
    "colour memory": (
        "A [baseline](#baseline) that has learned nothing: a place of the new frame gets the label of the places of "
        "frame 0 that have its colour."
    ),
    "consistency model": (
        "A network that jumps from any time of a flow to the data at its end: a [flow map](#flow-map) that knows "
        "only one goal. For a second step it must add fresh noise first."
    ),
    "cross-entropy": (
        "The negative logarithm of the probability that the network gave to the right answer, averaged over pixels. "
        "The most common loss of a segmentation network."
    ),
    "curriculum": ("An order of lessons: easy ones first. Here: true previous masks, then the network's own."),
    "davis": (
        "*Densely Annotated Video Segmentation*: the data set on which most papers report, short real videos with a "
        "mask for every frame, and a program that scores the answers. DAVIS-2016 has one object "
        "a video, DAVIS-2017 keeps several apart."
    ),
    "decoder": "The half of a network that turns coarse features back into a mask of full resolution.",
    "deep supervision": (
        "A loss on side outputs inside a network, beside the one on the final output, so that early parts learn "
        "at once."
    ),
    "detach": "To cut a tensor out of the graph, so that no gradient flows through it.",
    "dice loss": (
        "1 minus the Dice score: twice the overlap of two masks, divided by the sum of their areas, computed on "
        "probabilities. Small objects weigh as much as large ones."
    ),
    "dilation": (
        "Gaps between the weights of a convolution, so that it sees further without more weights and without a "
        "stride. Growing a mask by a radius is also called dilation."
    ),
    "discriminator": "The network in a GAN that learns to tell real frames from generated ones.",
    "distillation": (
        "Training a network, the student, on what another one, the teacher, answers; here to need fewer steps."
    ),
    "distractor": "Something that looks like the object and is not the object: a look-alike.",
    "drift": (
        "The slow loss of an object: each frame's mask is a little worse than the previous one, from which it was"
        " made."
    ),
    "ema": (
        "Exponential moving average: beside the weights that are trained, a copy that moves a small part of the way "
        "to them after each step. It is less noisy, and it is what is used afterwards."
    ),
    "encoder": (
        "The half of a network that turns a picture into feature maps, coarser and with more channels step by step."
    ),
    "euler method": (
        "Following a [velocity](#velocity) by straight steps: at each stop, ask for the velocity and move on along "
        "it. The shorter the steps, the smaller the error."
    ),
    "eulerian map distillation": (
        "EMD. A loss for a [flow map](#flow-map): two jumps that start at neighbouring points of a path must end at "
        "the same place. Its sibling, Lagrangian map distillation (LMD), moves the jump's end instead of its start."
    ),
    "exposure bias": (
        "The gap between training and use that [teacher forcing](#teacher-forcing) leaves: in training the "
        "network saw only true masks, in use it sees its own."
    ),
    "fine-tuning": (
        "Training a network further, with few steps, on something narrower: on this task after ImageNet, or on frame "
        "0 of one video at test time."
    ),
    "flow map": (
        "A network that jumps from any time of a flow to any other in one call. It has learned the average "
        "[velocity](#velocity) between the two times."
    ),
    "flow matching": (
        "Training a [velocity](#velocity) field: connect noise and data by straight lines, and regress to the lines' "
        "velocities. Where lines cross the network learns their mean."
    ),
    "generator": (
        "A network that makes pictures: in STCNN the next frame, from past frames; in a GAN also from noise, so "
        "that one past has many answers."
    ),
    "gradient penalty": (
        "A term in a [discriminator](#discriminator)'s loss that keeps its slope small. R1 penalises the squared "
        "gradient with respect to real pictures."
    ),
    "global convolution": (
        "A convolution over a large window, made of a tall and thin one and a long and flat one behind each other."
    ),
    "ground truth": "The true masks, with which an answer is compared; often just *the truth*.",
    "guidance": (
        "Pushing a generator's answer away from a poorer one, `v = λ v_good + (1 - λ) v_poor` with λ > 1. Which "
        "poorer one: see [autoguidance](#autoguidance) and [classifier-free guidance](#classifier-free-guidance)."
    ),
    "guide mask": (
        "A rough mask that is fed to the network together with the frame, to say which object is meant. In "
        "MaskTrack it is the previous frame's answer."
    ),
    "hidden state": "What a recurrent network carries from one step to the next.",
    "jvp": (
        "Jacobian-vector product: how a function's value changes when its inputs move along a given direction, the "
        "tangent. Forward mode computes it together with the value, in one pass."
    ),
    "key": (
        "A short vector that says what a place looks like, made for comparing. Its partner is the [value](#value)."
    ),
    "label propagation": (
        "A [baseline](#baseline) that copies labels from the first and the last few frames to places nearby that "
        "look alike, by features of a network that was trained for something else."
    ),
    "linear probe": (
        "A weighted sum that is trained on frozen features, to find out what can be read from them. It cannot "
        "compute much by itself, so what it finds must have been there."
    ),
    "lora": (
        "Low-rank adaptation: a trained layer stays as it is, and a product of two thin matrices beside it learns. "
        "The second one begins at zero, so at first nothing changes."
    ),
    "mask": (
        "What is there, for each pixel of a frame. In a file an [object id](#object-id); inside a method one yes or "
        "no, or one probability, for each object."
    ),
    "mask-swap test": (
        "Give a network the mask of one object of a clip, then that of another, and compare the two answers. If "
        "they hardly differ (a high mask-swap IoU), the network ignores its mask."
    ),
    "memory bank": "The stored keys and values of past frames.",
    "motion gate": (
        "In STCNN: what is far from the previous mask is erased, because objects do not jump. It opens everywhere "
        "when the previous mask is empty."
    ),
    "object id": "The number of an object in a mask: 1 to 254; 0 is background, 255 is [void](#void).",
    "occlusion": "Something passes in front of the object and hides it, in part or whole.",
    "one-hot": "A mask as one yes-or-no channel for each object, instead of one picture of ids.",
    "online": (
        "A method is online if its answer for a frame uses no later frame. Also: *online tuning*, training on "
        "frame 0 at test time."
    ),
    "online fine-tuning": (
        "Training a network further on frame 0 of a video, for one object, before the video is segmented. The "
        "object is then in the weights."
    ),
    "open loop": (
        "A method, or one step of it, is given the truth as its input instead of its own previous answer. Opposite: "
        "[closed loop](#closed-loop)."
    ),
    "oracle": (
        "A method that is told something that no real method could know. It shows what that knowledge is worth."
    ),
    "palette": "The table in a mask file that gives each id its colour.",
    "precision": "Of what was predicted, the share that is right.",
    "profile": "The size at which the notebooks run: `smoke`, `cpu` or `gpu`. It changes numbers, never the code.",
    "propagate": "To carry the given mask through a video, frame by frame.",
    "protocol": "The rules of a benchmark: which frames count, and what is averaged over what.",
    "query": (
        "The question that a cell of the current frame asks: its [key](#key) is compared with the keys in memory."
    ),
    "recall": (
        "Of what is true, the share that was found. DAVIS also calls the share of frames with J above one half "
        "*recall*."
    ),
    "recurrent cell": (
        "A layer with a [hidden state](#hidden-state), used again at every step. In a *convolutional LSTM* the "
        "state is a feature map, and gates decide what to keep, what to add and what to output."
    ),
    "reference frame": (
        "The frame whose mask was given, usually frame 0, when a method looks back at it in every frame."
    ),
    "region similarity": (
        "J. The area that two masks share over the area that they cover together: intersection over union, IoU, "
        "the Jaccard index."
    ),
    "sampling floor": (
        "The distance between two fresh sets of samples of the *same* distribution. A smaller distance says nothing."
    ),
    "seed": (
        "The number from which random numbers start. With the same seed a program draws the same clip, or begins "
        "with the same weights."
    ),
    "self-supervised learning": (
        "Training whose targets come from the data themselves, without annotation: for example the next frame of "
        "a video."
    ),
    "semi-supervised": (
        "The task of this course: one frame of each video has a mask, that of the object to follow. It says how "
        "much of the *video* is annotated, and nothing about training."
    ),
    "siamese encoder": (
        "One encoder, with one set of weights, through which two inputs go, so that their features can be compared."
    ),
    "skip connection": (
        "A shortcut that brings fine feature maps from the encoder to the decoder, because outlines are lost on "
        "the way through the coarse ones."
    ),
    "sliced wasserstein distance": (
        "SW2. How far two clouds of points are apart: project both on a line, sort, compare point by point, and "
        "average over many lines."
    ),
    "slot": (
        "One of the objects that a network can draw in a frame: a place in an order, with a state of its own and the "
        "weights of all the others."
    ),
    "soft aggregation": (
        "Merging the answers for several objects into one distribution for each pixel, by their odds: "
        "`p_m = o_m / (o_0 + o_1 + ... + o_M)` with `o_m = q_m / (1 - q_m)`, where `q_m` is what the network says of "
        "object m alone, and `q_0 = (1 - q_1) ... (1 - q_M)` the background."
    ),
    "soft iou cost": (
        "1 minus intersection over union, computed on probabilities. For an empty target it is 1 whatever is drawn, "
        "and has no gradient."
    ),
    "teacher forcing": (
        "Training a recurrent network with the truth as its previous output. The input is good from the first "
        "step, and better than it will ever be in use."
    ),
    "temperature": (
        "What scores are divided by before a softmax; the lower it is, the more weight the largest score gets."
    ),
    "tolerance": (
        "How far apart two outlines may lie and still count as equal: in DAVIS 0.8 % of the picture's diagonal, "
        "rounded up to whole pixels."
    ),
    "top-k": "Only the k best matches of a memory may answer; all others get weight zero.",
    "value": "What is stored beside a [key](#key): what we know about the place, above all whether it is the object.",
    "velocity": (
        "In a generator: which way, and how fast, a sample moves at this moment of its way from noise to data."
    ),
    "void": "Pixels for which the annotator could not say; id 255.",
    "zero-shot": (
        "Finding and following objects without being given any mask. *One-shot*: with the mask of one frame."
    ),
}


def anchor(entry: str) -> str:
    """The part after ``#`` of a link to an entry; JupyterLab and code hosts make the same one of its heading."""
    return entry.replace(" ", "-")


def glossary_page(pages: Mapping[str, str]) -> str:
    """The glossary in Markdown.

    Args:
        pages: for each entry a link to the page that uses it first; empty if none does.
    """
    parts = ["# Glossary\n\nThe words of the course, each with the page on which you meet it first."]
    for entry in sorted(GLOSSARY):
        first = f" *First in {pages[entry]}.*" if pages[entry] else ""
        parts.append(f"### {entry}\n\n{GLOSSARY[entry]}{first}")
    return "\n\n".join(parts) + "\n"
