"""The graded exercises: ``check_NN`` belongs to notebook NN; :mod:`.exercise` says what an exercise is."""
