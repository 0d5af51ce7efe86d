"""The built-in cluster: a process on the loopback that speaks the part of Nomad's HTTP API that Caravan uses.

It is for trying, developing and testing; a GPU that its inventory only declares is marked so and never pretended to
be real. Layers, each importing only those above it:

    words, inventory          formats and the declared machines
    canonical, validation     jobs as the server stores and refuses them
    constraints, scheduler    where an allocation fits, and why not: pure
    state                     jobs, evaluations, allocations, indexes, on disk
    reconcile, broker         what an evaluation places and stops, when blocked ones run again
    executor, memory_guard    the supervisor process of one task; stands alone
    taskdir, taskenv, drivers what a task is given and how it is started
    lifecycle                 tasks and allocations from start to end, with Nomad's events
    server, fs, streams       HTTP
    process, control          the cluster's process; start, status and stop
"""
