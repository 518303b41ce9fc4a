"""`forkless gallery`: each trap under the standard library, and the same program under forkless.

The programs are real and lie in `programs/`, in a folder for each trap. `_traps` says what they show, `_run`
runs one of them, `_judge` says what its run means, `_pairs` does both for the two halves of a case. `_table`
and `_document` tell people and programs, `_command` reads the options. `_interpreters` finds other Pythons.

`refcount-copy` has a memory page besides: `_memory_page` measures, `_memory_table` and `_memory_chart` show.
"""
