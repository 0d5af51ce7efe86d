"""Signs that processes of one training do not find, hear or understand each other. Only data.

PyTorch's elastic launcher, stores and process groups, NCCL, Gloo, MPI, DeepSpeed, Accelerate, JAX, Ray and Slurm.
Where one process ends by its own fault the others lose it: what they say then is an echo and is less sure.
"""

from typing import Final

from caravan.diagnosis.looks import slots_wanted
from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_LATE: Final = _F.NCCL_TIMEOUT
_NCCL: Final = _F.NCCL_ERROR
_PORT: Final = _F.RENDEZVOUS_PORT_IN_USE
_MEET: Final = _F.RENDEZVOUS_UNREACHABLE
_LAUNCH: Final = _F.LAUNCHER_MISCONFIGURED
_ENDED: Final = _F.INTERRUPTED_EXTERNALLY

_HOST: Final = r"\[?(?P<host>[\w.-]{1,80}|[0-9a-f:.]{2,45})\]?"
_ADDRESS: Final = r"(?P<host>\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]{3,45})<(?P<port>\d{1,5})>"
_STORE: Final = (
    r"\bTCPStore\(|_create_c10d_store|_env_rendezvous_handler|_tcp_rendezvous|init_process_group\(|rendezvous"
)
_VARIABLES: Final = (
    r"(?:LOCAL_|GROUP_|NODE_)?RANK|(?:LOCAL_)?WORLD_SIZE|MASTER_ADDR|MASTER_PORT|SLURM_\w+|OMPI_\w+|PMI_\w+"
)
_STARTERS: Final = (
    r"torchrun|accelerate launch|torch\.distributed\.(?:launch|run)|mpirun|mpiexec|horovodrun"
    r"|deepspeed launcher|srun\b"
)

COLLECTIVE_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"[Ww]atchdog caught collective operation timeout: Work\w+\((?:SeqNum=(?P<seq>\d+), )?OpType=(?P<op>\w+).{"
        r"0,200}Timeout\(ms\)=(?P<timeout_ms>\d+)",
        _LOG,
        _LATE,
        0.8,
    ),
    row(
        r"\[Rank (?P<rank>\d+)\] (?:[Ww]atchdog caught|Caught) collective operation timeout"
        r"|Timeout at NCCL work: (?P<seq>\d+)",
        _LOG,
        _LATE,
        0.78,
    ),
    row(
        r"Some NCCL operations have failed or timed out|\bHeartbeat monitor timed out\b"
        r"|watchdog got stuck for (?P<timeout_s>\d+) ?s",
        _LOG,
        _LATE,
        0.7,
    ),
    row(
        r"failed to pass monitoredBarrier in (?P<timeout_ms>\d+) ms"
        r"|Timed out waiting (?P<timeout_ms2>\d+)ms for (?:recv|send) operation",
        _LOG,
        _LATE,
        0.78,
    ),
    row(
        r"store->get\('\d+(?::\d+)*'\) got error: (?:Socket Timeout|wait timeout)"
        r"|\bwait timeout after (?P<timeout_ms>\d+)ms, keys:",
        _LOG,
        _LATE,
        0.72,
    ),
    row(r"waiting for remainder of ranks for more than (?P<timeout_s>\d+) seconds", _LOG, _LATE, 0.7, mild=True),
    # NCCL's own words. "System call failed" and "remote process" say only that something did.
    row(
        rf"(?:Connect to|connect to|connection to|connecting to) {_ADDRESS}(?:<\d+>)? (?:failed"
        r"|returned)\s*:? ?(?P<value>(?!.*retrying).*)",
        _LOG,
        _NCCL,
        0.93,
        mild=True,
        kind="connect",
    ),
    row(
        r"\bBootstrap : no (?:socket )?interface found|No interface found in the same subnet"
        r"|Unable to find (?:interface|address) for",
        _LOG,
        _NCCL,
        0.93,
        mild=True,
        kind="interface",
    ),
    row(
        r"NET/IB ?: .{0,80}(?:Got completion .{0,80}(?:error|status=) ?\d+|Got async (?:fatal )?event"
        r"|[Uu]nable to open)|\bibv_(?:modify_qp|create_qp|reg_mr\w*|poll_cq|open_device)\b.{0,60}fail"
        r"|Call to ibv_\w+ failed",
        _LOG,
        _NCCL,
        0.85,
        mild=True,
        kind="fabric",
    ),
    row(
        r"\bGloo connectFullMesh failed|\bgloo/transport/tcp/\w+\.cc:\d+\] (?!.*Timed out waiting)(?!.*Connection "
        r"closed by peer).{0,80}(?:connect|SO_ERROR|no error)",
        _LOG,
        _NCCL,
        0.85,
        kind="connect",
    ),
    row(r"\bpeer access is not supported between these two devices", _LOG, _NCCL, 0.8, _F.USER_CODE_BUG, kind="system"),
    # An echo, where nothing else is known.
    row(r"\bgloo/transport/\w+/\w+\.cc:\d+\] Connection (?:closed|reset) by peer", _LOG, _NCCL, 0.5, kind="connect"),
    row(r"\bncclSystemError\b|\bunhandled system error\b", _LOG, _NCCL, 0.75, kind="system"),
    row(
        r"\bnccl(?:Internal|Remote|InvalidUsage|InvalidArgument)\w*: |\bNCCL error (?:in|at|occurred)\b"
        r"|\bncclUnhandledCudaError\b|NCCL communicator (?:was aborted|encountered error)",
        _LOG,
        _NCCL,
        0.7,
        kind="system",
    ),
)

MEETING_SIGNS: Final[tuple[Sign, ...]] = (
    # The port of the store.
    row(
        r"(?:failed to bind to|has failed to listen).{0,160}?(?:\]|\?UNKNOWN\?|0\.0\.0\.0"
        r"|port):? ?(?P<port>\d{2,5})\b.{0,120}(?:EADDRINUSE|errno: 98|already in use)",
        _LOG,
        _PORT,
        0.96,
        _MEET,
        _NCCL,
    ),
    row(
        r"another process is utilizing it|communication on port `(?P<port>\d+)`, but another process",
        _LOG,
        _PORT,
        0.96,
    ),
    row(
        r"^(?:RuntimeError|(?:[\w.]+\.)?DistNetworkError|ValueError): .*(?:\bAddress already in use\b"
        r"|\bEADDRINUSE\b)",
        _LOG,
        _PORT,
        0.93,
        _MEET,
        _NCCL,
    ),
    row(
        r"^OSError: \[Errno 98\]|(?i:\b(?:failed to (?:add|bind)|could not bind"
        r"|bind failed).{0,120}address already in use)|\bport (?P<port>\d{2,5}) is already (?:in use|allocated"
        r"|bound)",
        _LOG,
        _PORT,
        0.78,
    ),
    row(r"\bRay is trying to start at \S+:(?P<port>\d+), but is already running", _LOG, _PORT, 0.85),
    # The store, or the first process, is not reached.
    row(
        r"client socket has (?:timed out after \S+|failed to connect to) (?:while trying to connect to )?[(\[]?"
        rf"{_HOST}[)\]]?(?:, |:)(?P<port>\d+)\)?(?!.*errno: 9[79])",
        _LOG,
        _MEET,
        0.93,
        _NCCL,
        _LATE,
    ),
    row(
        r"client socket has failed to connect to \[?(?P<host>[\w.:-]{1,80}?)\]?:(?P<port>\d+) \(errno: 1\d\d\b",
        _LOG,
        _MEET,
        0.75,
        mild=True,
    ),
    row(
        rf"network addresses of \({_HOST}, (?P<port>\d+)\) cannot be retrieved",
        _LOG,
        _MEET,
        0.95,
        _F.NETWORK_UNREACHABLE,
    ),
    row(
        r"\bRendezvousConnectionError\b|connection to the C10d store has failed",
        _LOG,
        _MEET,
        0.93,
        _F.NETWORK_UNREACHABLE,
    ),
    row(r"\bRendezvousTimeoutError\b|\bRendezvousClosedError\b", _LOG, _MEET, 0.85),
    row(
        r"\bwaiting for clients\. \d+/\d+ clients joined|[Tt]imed out initializing process group in store based ba"
        r"rrier|\bconnect\(\) timed out\. Original timeout was \d+",
        _LOG,
        _MEET,
        0.9,
        _LATE,
    ),
    row(
        rf"\bssh: Could not resolve hostname {_HOST}:|\bssh: connect to host {_HOST.replace('<host>', '<host2>')} "
        r"port (?P<port>\d+): ",
        _LOG,
        _MEET,
        0.93,
        _F.NETWORK_UNREACHABLE,
        _LAUNCH,
    ),
    row(
        r"ORTE was unable to reliably start one or more daemons|ORTE has lost communication|unable to (?:connect"
        r"|contact) .{0,40}\b(?:orted|prted)\b|: ssh exited with exit code 255|^Host key verification failed",
        _LOG,
        _MEET,
        0.75,
    ),
    row(
        r"^(?:RuntimeError|(?:[\w.]+\.)?DistNetworkError|(?:[\w.]+\.)?DistStoreError|TimeoutError"
        r"|ConnectionRefusedError|OSError|socket\.gaierror): .*"
        r"(?:timed out|Connection refused|No route to host|not known|name resolution|Network is unreachable)",
        _LOG,
        _MEET,
        0.88,
        _F.NETWORK_UNREACHABLE,
        above=_STORE,
    ),
    row(
        r"(?i:\b(?:unable|failed|cannot|could not|couldn't) (?:to )?(?:connect to|reach|find"
        r"|resolve) (?:the )?(?:GCS\b|(?:head|master|chief|coordinator|rank[ -]?0|scheduler)\b"
        r"|any running Ray instance))",
        _LOG,
        _MEET,
        0.88,
    ),
    row(
        r"(?i:\bjax\.distributed|coordination service|coordinator).{0,200}(?:DEADLINE_EXCEEDED|UNAVAILABLE"
        r"|failed to connect)|(?:DEADLINE_EXCEEDED|UNAVAILABLE): .{0,120}(?:[Cc]oordinat|Barrier timed out"
        r"|RegisterTask|failed to connect to all addresses)",
        _LOG,
        _MEET,
        0.88,
    ),
)

START_SIGNS: Final[tuple[Sign, ...]] = (
    row(r"environment variable (?P<variable>\w+) expected, but not set", _LOG, _LAUNCH, 0.96, kind="environment"),
    row(rf"^KeyError: '(?P<variable>{_VARIABLES})'", _LOG, _LAUNCH, 0.93, kind="environment"),
    row(
        r"Error initializing torch\.distributed using \S+ rendezvous: (?!environment)",
        _LOG,
        _LAUNCH,
        0.9,
        kind="environment",
    ),
    row(
        r"passed configuration file `?(?P<path>[^`\s]+)`? does not exist",
        _LOG,
        _LAUNCH,
        0.96,
        _F.DATA_PATH_MISSING,
        kind="config",
    ),
    row(r"(?i:\b(?:please )?run `?accelerate config`?(?: first| before)?)", _LOG, _LAUNCH, 0.8, kind="config"),
    row(r"process group has not been initialized", _LOG, _LAUNCH, 0.8, kind="environment"),
    row(
        r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|SystemExit): .*(?i:\b(?:launch(?:ed|ing)?|start(?:ed)?"
        rf"|run(?:ning)?|use|using|via|with|under)\b).{{0,40}}(?:{_STARTERS})",
        _LOG,
        _LAUNCH,
        0.88,
        _F.TRAINING_CONFIG_INVALID,
        kind="launcher",
    ),
    row(
        rf"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|SystemExit): .*\b(?P<variable>{_VARIABLES})\b.{{0,60}}(?i:not (?"
        r":set|found|defined)|missing|unset|required|must be set)",
        _LOG,
        _LAUNCH,
        0.88,
        kind="environment",
    ),
    row(
        r"Unsupported nproc_per_node value|\btorch\.distributed is not initialized"
        r"|model parallel group is not initialized"
        r"|error: the following arguments are required: --local[-_]rank|mpirun or mpiexec were not found",
        _LOG,
        _LAUNCH,
        0.9,
        _F.CLI_ARGS_INVALID,
        _F.USER_CODE_BUG,
        kind="launcher",
    ),
    row(
        r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|SystemExit): .*(?i:\bFORCE_TORCHRUN\b|\bdistributed launch(?:er)?\b"
        r"|\b(?:launch|start|run|invoke)(?:ed|ing)?\b.{0,60}\b(?:one|a single|multiple|\d) process(?:es)?\b"
        r"|\b(?:needs?|must|should|has|have|requires?)\b.{0,40}\b(?:launched|started"
        r"|run)\b.{0,40}\b(?:distributed|launcher"
        r"|deepspeed|horovod|accelerate|mpi)\b)"
        r"|\bLightning detected SLURM but `srun` was not used|\bhorovodrun: error: argument|: error: argument -np\b"
        r"|\bno (?:hosts?|processes) (?:were )?(?:given|specified)\b.{0,60}\b(?:launch|mpirun|horovodrun)",
        _LOG,
        _LAUNCH,
        0.85,
        _F.TRAINING_CONFIG_INVALID,
        _F.CLI_ARGS_INVALID,
        _F.USER_CODE_BUG,
        kind="launcher",
    ),
    row(r"has been loaded with `?device_map='auto'`? in any distributed mode", _LOG, _LAUNCH, 0.85, kind="launcher"),
    row(
        r"\blauncher '(?P<value>\w+)' not installed|mpirun has detected an attempt to run as root"
        r"|was not built with SLURM's PMI support|^ValueError: You set `--ntasks="
        r"|number of tasks per node configured in SLURM",
        _LOG,
        _LAUNCH,
        0.9,
        kind="launcher",
    ),
    row(slots_wanted, _LOG, _F.GPU_COUNT_MISMATCH, 0.8),
    row(
        r"There are not enough slots available in the system|All nodes which are allocated for this job are alread"
        r"y filled",
        _LOG,
        _LAUNCH,
        0.75,
        kind="slots",
    ),
)

# Who ends a job from outside says so in its log.
ENDED_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"\bCANCELLED AT \S+ DUE TO (?:TIME LIMIT|TIMEOUT)|\bDUE TO TIME LIMIT\b|(?i:\bwall ?time limit (?:reached"
        r"|exceeded)|\bexceeded (?:the )?(?:wall ?time|time limit))",
        _LOG,
        _ENDED,
        0.96,
        _F.HOST_MEMORY_OOM,
        _F.USER_CODE_BUG,
        _F.NCCL_ERROR,
        _LATE,
        kind="time",
    ),
    row(
        r"(?i:\bDUE TO PREEMPTION\b|\b(?:job|task|instance|node|worker|pod|vm|allocation) (?:was |has been "
        r"|is being |will be )?(?:preempted|evicted|reclaimed)\b|spot (?:instance )?interruption|preemption notice"
        r"|\binstance-action: terminate)",
        _LOG,
        _ENDED,
        0.93,
        _F.HOST_MEMORY_OOM,
        _F.USER_CODE_BUG,
        kind="preempted",
    ),
    row(
        r"\bDUE TO NODE FAILURE\b|(?i:\bnode (?:is )?(?:being )?(?:drained|draining|shutting down|lost)\b)",
        _LOG,
        _ENDED,
        0.9,
        _F.HOST_MEMORY_OOM,
        _F.USER_CODE_BUG,
        kind="node",
    ),
    row(
        r"\bslurmstepd: error: \*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT",
        _LOG,
        _ENDED,
        0.9,
        _F.HOST_MEMORY_OOM,
        _F.USER_CODE_BUG,
        kind="stopped",
    ),
    row(
        r"\bReceived (?:Signals\.)?(?:SIGTERM|SIGINT|SIGHUP)\b(?:: 15)?|(?i:\b(?:received|got|caught"
        r"|handling) (?:signal )?(?:sigterm|sigint|sighup|sigusr1|signal 15|15 \(SIGTERM\)))|auto-requeue signal"
        r"|\bgot signal: (?:15|2"
        r"|1)\b",
        _LOG,
        _ENDED,
        0.8,
        mild=True,
        kind="stopped",
    ),
    row(
        r": line \d+: +\d+ Terminated\b|^Terminated\s*$|\bdied with <Signals\.(?:SIGTERM|SIGINT|SIGHUP): \d+>"
        r"|\bexited on signal 15 \(Terminated\)",
        _LOG,
        _ENDED,
        0.7,
        kind="stopped",
    ),
    row(
        r"(?i:^(?!caravan: ).*\b(?:exit(?:ed)?|status|code|rc)\b[ =:]{0,3}(?:with )?(?:code |status )?(?:143|137)\b)"
        r"|\(exitcode: -15\)|\bexitcode\s*: -15\b|exits with return code = -15\b|^KeyboardInterrupt\b",
        _LOG,
        _ENDED,
        0.6,
        kind="stopped",
    ),
)

DISTRIBUTED_SIGNS: Final[tuple[Sign, ...]] = (*COLLECTIVE_SIGNS, *MEETING_SIGNS, *START_SIGNS, *ENDED_SIGNS)
