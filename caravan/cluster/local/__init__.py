"""The built-in cluster: a process on the loopback that speaks the part of Nomad's HTTP API that Caravan uses.

It is for trying, developing and testing; a GPU that its inventory only declares is marked so and never pretended to
be real. Layers, each importing only those above it:

    words, inventory, nodes               formats, the declared machines, and how the API shows them
    canonical, validation, diff           jobs as the server stores, refuses and compares them: pure
    constraints, resources, scheduler     where an allocation fits, and why not: pure
    encoding, trouble, state              jobs, evaluations, allocations, indexes, on disk
    reconcile, allocs, broker             what an evaluation places and stops, when blocked ones run again
    memory_guard, executor, nursery       the supervisor process of one task; stands alone
    taskenv, taskdir, drivers, events     what a task is given, how it is started, what is said of it
    supervise, lifecycle, reports, runner  tasks and allocations from start to end
    web, api_cluster, api_jobs, files, server    HTTP
    process, control                      the cluster's process; start, status and stop
"""
