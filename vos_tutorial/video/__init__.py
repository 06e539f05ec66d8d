"""Your own video: read it, keep a project of masks and results, follow the objects, export.

>>> from vos_tutorial import segmenter
>>> from vos_tutorial.video import Project, Video
>>> project = Project.open("my_project", Video("clip.mp4", max_side=1280))
>>> dog = project.add_object("dog")
>>> project.save_mask(0, dog, mask)  # bool [H, W]
>>> project.propagate(segmenter("stm", variant="photos"))

One module, one thing: ``decoding`` (a file's frames, as a player shows them), ``reading`` (:class:`Video`),
``project`` (:class:`Project`, the folder), ``following`` (what is computed again after a correction), ``writing``
(a video file), ``exporting`` (all formats) and ``command`` (``python -m vos_tutorial track``).
"""

from .exporting import export
from .project import Object, Project
from .reading import Video
from .writing import write_video

__all__ = ["Object", "Project", "Video", "export", "write_video"]
