"""What the C library is told about memory when a process starts.

Activations come and go with every pass of a network. Where glibc keeps their memory, in huge pages,
instead of mapping it anew each time, a pass on a CPU takes about a fifth less. It reads this when
the interpreter starts: the runner sets it for its kernels, a loop for its worker processes, and who
runs a script of their own sets it in the shell.
"""

GLIBC_TUNABLES = ":".join(
    f"glibc.malloc.{name}"
    for name in ("mmap_threshold=4294967296", "trim_threshold=17179869184", "hugetlb=1")
)
