"""What the options of `invoke rules.verify` are for."""

VERIFY_HELP = {
    "kernel": "with commas between: host (this one, without it), names of kernel.list, uml, paths",
    "json": "write what came of each kernel, with all mismatches, to FILE; - is standard output",
    "sequences": "in place of the table, ask about N sequences of calls that are generated",
    "seed": "other sequences, the same for the same number; 1 without it",
    "keep": "the folder for the shortest sequence that differs; your state folder without it",
    "replay": "in place of the table, ask about kept sequences: files, folders, commas between",
}
