"""`forkless gallery`: each trap under the standard library, and the same program under forkless.

The programs are real and lie in `programs/`, in a folder for each trap. `_traps` says what they show, `_run`
runs one of them, `_judge` says what its run means, `_table` and `_command` tell people and programs.
"""
