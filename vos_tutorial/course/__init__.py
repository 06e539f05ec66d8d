"""The notebooks' side: exercises and their checks, figures, widgets, the list of lessons."""
