"""Tasks: what a frozen model is asked, one short file per dataset.

`TASKS` names them without importing them: name -> "module:attribute". An attribute is a `marble.task.Task`, or a function
that makes one from the argument behind the colon (``folder:PATH``). See `marble.task` for the contract.
"""

TASKS = {
    "synth-pitch": "marble.tasks.synth:PITCH",
    "synth-instrument": "marble.tasks.synth:INSTRUMENT",
    "synth-key": "marble.tasks.synth:KEY",
    "synth-tempo": "marble.tasks.synth:TEMPO",
    "gtzan": "marble.tasks.gtzan:GTZAN",
    "folder": "marble.tasks.folder:folder_task",
    "table": "marble.tasks.table:table_task",
}
