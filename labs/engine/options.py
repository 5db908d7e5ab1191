"""What `invoke --help` says of the options of each command, by their names."""

LAB_HELP = {
    "backend": "what makes hosts and processes: namespaces (the default) or docker",
    "kernel": "boot this kernel and run inside it: a version of invoke kernel.list, or a path",
    "json": "write the record to FILE; - is standard output, NAME.jsonl one line an event",
    "junit": "write what came of each step to FILE, as JUnit XML; - is standard output",
    "html": "write a page to look at, with all that was shown, to FILE; - is standard output",
    "seed": "vary ports, uids and addresses by this number; the same number, the same run",
    "dry": "print the plan and start nothing",
    "picture": "draw hosts, ports and who tried what after each step",
    "predict": "ask before each step what it will come to, and compare",
    "pause": "stop before each step, to look around from a second terminal",
    "lang": "the language of what is shown: en (the default) or zh",
}

KERNEL_HELP = {
    "names": "which: a name of kernel.list, uml, qemu or all; with commas between several",
    "mirror": "get Debian's packages from this address, not from where apt gets them here",
}

PLAY_HELP = {
    "lab": "the hosts and users of this lab; without it server and client, alice, bob and root",
    "user": "whose shell it is; alice without it",
    "host": "where; the first host without it",
    "seed": "vary ports, uids and addresses by this number, as for a lab",
    "lang": "the language of what is shown: en (the default) or zh",
    "new": "open another playground, even where one is open that could be joined",
    "command": "run this command line there instead of a shell, and end with its status",
    "show": "print the evidence of all hosts of the open playground; --port N for one port",
    "port": "with --show: the sockets of this port alone",
}

LEARN_HELP = {
    "lang": "the language of what is shown: en (the default) or zh",
    "lab": "open this lab at once",
    "seed": "vary ports, uids and addresses of labs by this number",
    "web": "show it in a browser instead, on this machine alone; prints the address to open",
    "port": "with --web: the port of this machine; a free one without it",
}

REPORT_HELP = {
    "records": "FILEs that --json wrote, of labs or one of the matrix, with commas between",
    "html": "write the page to FILE; - is standard output",
}

VERDICTS_HELP = {
    "records": "FILEs that --json wrote, with commas between; without it the labs are run now",
}

VERIFY_HELP = {
    "kernel": "with commas between: host (this one, without it), names of kernel.list, uml, paths",
    "json": "write what came of each kernel, with all mismatches, to FILE; - is standard output",
    "sequences": "in place of the table, ask about N sequences of calls that are generated",
    "seed": "other sequences, the same for the same number; 1 without it",
    "keep": "the folder for the shortest sequence that differs; your state folder without it",
    "replay": "in place of the table, ask about kept sequences: files, folders, commas between",
}

WHY_HELP = {
    "port": "the port, from 1 to 65535",
    "user": "who would bind it: a name or a uid; you without it",
    "address": "where: 0.0.0.0 without it; many servers bind :: instead",
    "udp": "a UDP socket, and no listen()",
    "reuseaddr": "with SO_REUSEADDR",
    "reuseport": "with SO_REUSEPORT",
    "v6only": "with IPV6_V6ONLY",
    "device": "with SO_BINDTODEVICE to this one",
    "capability": "with CAP_NET_BIND_SERVICE, which root has anyway",
    "netns": "in the network namespace of the process with this pid",
    "json": "write all of it to FILE; - is standard output",
    "lang": "the language of what is shown: en (the default) or zh",
}

CHECK_HELP = {
    "labs": "which, with commas between; all without it",
    "jobs": "how many proofs run side by side; as many as there are processors without it",
    "quick": "read and plan them, but run none of their programs",
}

NEW_HELP = {
    "name": "a new lab's; or that of a lab which is there, with --challenge",
    "challenge": "the name of a new challenge of it; use_NAME without it",
}

MATRIX_HELP = {
    "kernels": "with commas between: host (this one), names of kernel.list, uml, qemu, all, paths",
    "labs": "which, with commas between; all without it",
    "jobs": "how many kernels run side by side; as many as there are processors without it",
    "json": "write all records to FILE; - is standard output",
    "html": "write a page of what came of it to FILE; - is standard output",
    "against": "compare with a FILE that --json wrote; what changed is status 3",
}

CLASS_HELP = {
    "learners": "the class: a FILE with one name a line; a name is one exercise, always the same",
    "lab": "the lab that each of them gets: euid (the default) or another name of invoke --list",
    "folder": "where the results are kept; class-LAB without it",
    "resume": "go on in that folder with those who have no result yet",
    "jobs": "how many run at once; as many as the engine or the swarm has processors without it",
    "seconds": "how long one may take until it is sent again; 180 without it",
    "json": "write the class table to FILE; - is standard output",
    "html": "write the class table to FILE as a page; - is standard output",
}

EXERCISE_HELP = {
    "name": "which exercise: one of invoke exercise.progress",
    "folder": "where your program is to be; bindlab/NAME in your home folder without it",
    "seed": "ports, users and orders of your own; the same number, the same exercise",
    "kernel": "boot this kernel and check inside it: a version of invoke kernel.list, or a path",
    "json": "write the record to FILE; - is standard output, NAME.jsonl one line an event",
    "junit": "write the requirements as JUnit XML to FILE",
    "html": "write a page to look at, with all that was shown, to FILE; - is standard output",
    "lang": "the language of what is shown: en (the default) or zh",
}

GRADE_HELP = {
    "folder": "where the submissions are: LEARNER/EXERCISE each, as exercise.start makes them",
    "name": "all are of this exercise: then LEARNER or LEARNER.py will do as well",
    "output": "write grades.json and grades.csv to this folder; to that of the submissions without",
    "jobs": "how many are checked at once; as many as there are processors without it",
    "seed": "the same ports and users for all; those that follow from the learner's name without",
    "junit": "write the grades as JUnit XML to FILE",
    "lang": "the language of hints: en (the default) or zh",
}

IMAGE_HELP = {
    "bootstrap": "first make the Debian image from packages, where no registry can be reached",
    "mirror": "with --bootstrap: get Debian's packages from this address",
    "only": "build this image alone: base, nginx, haproxy, gunicorn or workbench",
}

SITE_HELP = {"output": "the site's folder; build/site without it"}

PICTURES_HELP = {"output": "write gallery and pictures to this folder; to docs without it"}
SHEET_HELP = {"output": "write the pages to this folder; to docs without it"}
