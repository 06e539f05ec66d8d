"""Grading what students hand in: the exercises' own checks, on the page's cases and on fresh ones.

``python -m vos_tutorial.course.grading NOTEBOOK FOLDER`` grades a folder of notebooks or scripts and writes a CSV;
with nbgrader, :mod:`.gradebook` does the same inside ``nbgrader autograde``. Both stand on :func:`.runner.grade`:

* :mod:`.submission` takes the functions out of a notebook, without running anything;
* :mod:`.worker` runs them, in a process of its own that has limits and holds no answers;
* :mod:`.values` carries what they return back as plain data: nothing of a student's is unpickled or evaluated here;
* :mod:`.runner` starts and stops the worker, and compares.

**What is isolated.** A student's code never runs in the grader's process. It has its own process, an empty working
folder, an environment without the grader's variables, and limits on time, memory and the size of files. The right
answers are not loaded there, and the verdict is made outside from the values that came back.

**What is not.** The process runs as the grader's user: it can read what that user can read, such as the other
submissions or the package's own files with the reference answers, and it can use the network. Grade strangers' code
in a container, or as a user who owns nothing.
"""
