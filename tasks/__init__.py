"""Tasks: labelled clips that frozen models are probed on, one short file per dataset.

`TASKS` names them without importing them: name -> "module:attribute". An attribute is a `marble.task.Task`, or a function
that makes one from the argument after the colon (``folder:PATH``). See `marble.task` for the contract.
"""

TASKS = {
    "synth-pitch": "marble.tasks.synth.tasks:PITCH",
    "synth-instrument": "marble.tasks.synth.tasks:INSTRUMENT",
    "synth-key": "marble.tasks.synth.tasks:KEY",
    "synth-tempo": "marble.tasks.synth.tasks:TEMPO",
    "synth-chords": "marble.tasks.synth.tasks:SONG_CHORDS",
    "frame-pitch": "marble.tasks.synth.tasks:FRAME_PITCH",
    "gtzan": "marble.tasks.gtzan:GTZAN",
    "giantsteps-key": "marble.tasks.giantsteps:GIANTSTEPS_KEY",
    "emomusic": "marble.tasks.emomusic:EMOMUSIC",
    "vocalset-singer": "marble.tasks.vocalset:VOCALSET_SINGER",
    "vocalset-technique": "marble.tasks.vocalset:VOCALSET_TECHNIQUE",
    "mtt": "marble.tasks.magnatagatune:MTT",
    "mtt-clean": "marble.tasks.magnatagatune:MTT_CLEAN",
    "mtg-top50": "marble.tasks.mtg_jamendo:MTG_TOP50",
    "mtg-genre": "marble.tasks.mtg_jamendo:MTG_GENRE",
    "mtg-instrument": "marble.tasks.mtg_jamendo:MTG_INSTRUMENT",
    "mtg-mood": "marble.tasks.mtg_jamendo:MTG_MOOD",
    "nsynth-instrument": "marble.tasks.nsynth:NSYNTH_INSTRUMENT",
    "nsynth-pitch": "marble.tasks.nsynth:NSYNTH_PITCH",
    "nsynth-instrument-clean": "marble.tasks.nsynth:NSYNTH_INSTRUMENT_CLEAN",
    "nsynth-pitch-clean": "marble.tasks.nsynth:NSYNTH_PITCH_CLEAN",
    "piano-difficulty": "marble.tasks.piano_difficulty:DIFFICULTY_0",
    "piano-difficulty-1": "marble.tasks.piano_difficulty:DIFFICULTY_1",
    "piano-difficulty-2": "marble.tasks.piano_difficulty:DIFFICULTY_2",
    "piano-difficulty-3": "marble.tasks.piano_difficulty:DIFFICULTY_3",
    "piano-difficulty-4": "marble.tasks.piano_difficulty:DIFFICULTY_4",
    "chords": "marble.tasks.own.chords:chords_task",
    "chords-rwc": "marble.tasks.chords:CHORDS_RWC",
    "chords-uspop": "marble.tasks.chords:CHORDS_USPOP",
    "chords-isophonics": "marble.tasks.chords:CHORDS_ISOPHONICS",
    "chords-billboard": "marble.tasks.chords:CHORDS_BILLBOARD",
    "local-key": "marble.tasks.local_key:LOCAL_KEY",
    "music-preference": "marble.tasks.own.music_taste:music_preference",
    "rap-detection": "marble.tasks.own.music_taste:rap_detection",
    "sound-quality": "marble.tasks.own.music_taste:sound_quality",
    "folder": "marble.tasks.own.folder:folder_task",
    "table": "marble.tasks.own.table:table_task",
}

# The arguments of the tasks that take one, and those of them that also exist without.
ARGUMENTS = {
    "folder": "PATH",
    "table": "FILE",
    "chords": "PATH",
    "music-preference": "FILE",
    "rap-detection": "FILE",
    "sound-quality": "FILE",
}
OPTIONAL = {"chords"}

# Endless music without labels, to pretrain on: name -> "module:function" of (number, seconds, sample rate in Hz).
STREAMS = {"synth": "marble.tasks.synth.stream:segment"}
