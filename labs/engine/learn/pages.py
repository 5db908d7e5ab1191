"""What the help says, in Markdown: one page for each kind of screen."""

OF_THE_LIST = """\
# The course

Each numbered line is a lab: processes ask the kernel for ports, and you see what it answers, and
why. The lines below it are its exercises: programs that you write, checked by what they do.

- **↑ ↓** go from line to line, **Enter** opens the marked one, **Esc** leads back here.
- **✔** is a lab that you have run or an exercise that you have solved, **…** one that you have
  begun. **11/13** are the predictions that were right.
- **t** is light or dark, **q** leaves. **Ctrl-C** leaves at once; **Ctrl-Z** leads to the shell,
  and `fg` back.

Nothing of a lab reaches your machine's network, users or files; all ends with the course.
"""

OF_A_LAB = """\
# A lab

1. Read the **brief**.
2. **r** runs the lab. Before each step you are asked what it will come to: press the answer's
   number, or **0** where you do not know. **Ctrl-D** ends the questions, **p** turns them off.
3. Each step shows its calls, what the kernel says of the sockets (sock_diag), what was expected,
   what was observed, and the reason. The **picture** shows who has what.
4. **n** goes on to the next step, **a** to all that are left, **x** stops.
5. **e** opens the lab's exercise.

**Tab** goes to the next pane, **↑ ↓** scroll it, **← →** lead to other steps and their pictures.
A wide terminal shows panes side by side, a narrow one shows one at a time.
"""

OF_AN_EXERCISE = """\
# An exercise

1. Read the **task**. The program to begin with is in a folder of yours; its path is below the task.
2. **e** opens it in your editor (`VISUAL` or `EDITOR`), or edit it elsewhere.
3. **c** checks it as it is now; **w** checks it at each save.
4. **h** gives a hint; each says more than the one before.
5. Once it passes, **s** shows how one may do it.

**R** begins anew, and keeps your program beside the new one. **x** stops a check.
**Tab** goes to the next pane, **↑ ↓** scroll it, **← →** lead to other steps and their pictures.
"""

ALL = (OF_THE_LIST, OF_A_LAB, OF_AN_EXERCISE)
