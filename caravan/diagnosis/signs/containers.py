"""Signs in what docker, runc, containerd, the GPU's container toolkit and task drivers say of a container. Only data.

What they say of its image stands in `images.py`, of its command in `start.py`.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_EVENT: Final = Origin.EVENT
_SAID: Final = (Origin.EVENT, Origin.LOG)

_NODE: Final = _F.GPU_NODE_BROKEN
_OLD: Final = _F.CUDA_DRIVER_TOO_OLD
_MOUNT: Final = _F.BIND_MOUNT_REJECTED
_START: Final = _F.ENTRYPOINT_NOT_FOUND
_DRIVER: Final = _F.DRIVER_UNAVAILABLE
_VOLUME: Final = _F.VOLUME_UNAVAILABLE
_GPU: Final = (_START, _MOUNT, _F.CUDA_DEVICE_UNAVAILABLE, _F.IMAGE_NOT_FOUND, _F.DATA_PATH_MISSING)

CONTAINER_SIGNS: Final[tuple[Sign, ...]] = (
    # The GPU's part of the node.
    row(
        r"requirement error: unsatisfied condition: (?P<want>(?:cuda|driver)\s?[<>=]+\s?[\d.]+)"
        r"|unsatisfied condition: (?P<want2>[^,]{1,80}), please update your driver",
        _SAID,
        _OLD,
        0.98,
        _NODE,
        *_GPU,
    ),
    row(
        r"could not select device driver \"?(?:nvidia)?\"? with capabilities: \[\[.*gpu"
        r"|(?:[Uu]nknown or invalid runtime name|[Uu]nknown runtime specified"
        r"|requested docker runtime)[: ]+\\?\"?nvidia",
        _SAID,
        _NODE,
        0.97,
        *_GPU,
        kind="runtime",
    ),
    row(
        r"\bnvidia-container-(?:runtime-hook|toolkit|runtime|cli)\\?\"?: (?:executable file not found|no such file)"
        r"|unresolvable CDI devices|[Ff]ailed to inject (?:CDI|devices)"
        r"|CDI device injection failed|stat CDI host device"
        r"|\bCDI --device list option .*not set|\bfailed to (?:discover|get) .*\bCDI\b",
        _SAID,
        _NODE,
        0.96,
        *_GPU,
        kind="toolkit",
    ),
    row(
        r"(?:nvml error|[Ff]ailed to initialize NVML): driver/library version mismatch"
        r"|[Ff]ailed to initialize NVML: Driver/library version mismatch",
        _SAID,
        _NODE,
        0.97,
        *_GPU,
        kind="mismatch",
    ),
    row(
        r"nvidia-container-cli(?:\.real)?: device error: (?P<gpu>[^:]+): unknown device"
        r"|adding custom device \\?\"/dev/(?:nvidia\S*|dri\S*)\\?\": no such file"
        r"|\bfailed to reserve device \S*(?:nvidia|gpu)",
        _SAID,
        _NODE,
        0.95,
        *_GPU,
        kind="device",
    ),
    row(
        r"nvidia-container-cli(?:\.real)?: (?:initialization|detection|driver|ldcache|mount|container|cgroup"
        r"|ldconfig|load|permission|device|unknown)"
        r"(?: library)?(?: \w+)? ?error|nvidia-container-cli[^|]{0,80}: load library failed: |\bnvml error: ",
        _SAID,
        _NODE,
        0.94,
        *_GPU,
        kind="toolkit",
    ),
    # Mounts and privileges.
    row(
        r"volumes are not enabled; cannot (?:mount host paths?: \\?\"(?P<path>[^\"\\]+)"
        r"|use volume driver \\?\"(?P<driver>[^\"\\]+))",
        _SAID,
        _MOUNT,
        0.97,
        kind="disabled",
    ),
    row(
        r"[Dd]ocker privileged mode is disabled|privileged mode is (?:disabled|not allowed)"
        r"|driver does not allow the following capabilities: (?P<capability>[\w, ]+)"
        r"|not in (?:the )?(?:cap|capability) (?:allow|white)list"
        r"|\ballow_(?:privileged|caps)\b.{0,80}(?:not|disabled|denied)|requested runtime \"[^\"]+\" is not allowed"
        r"|cannot apply \"(?P<option>(?:pid|ipc|userns|uts|network)_mode)\" configuration"
        r"|(?:pid|ipc|userns|uts)_mode .{0,60}not allowed|running as user \"[^\"]+\" is disallowed"
        r"|\bcapability \"?(?P<capability2>\w+)\"? (?:is )?not allowed|[Ii]nvalid capability"
        r"|unknown capability|\"CAP_\w+\" is not allowed",
        _SAID,
        _MOUNT,
        0.95,
        _START,
        kind="privilege",
    ),
    row(
        r"bind source path does not exist: (?P<path>[^\s\"]+)",
        _SAID,
        _MOUNT,
        0.97,
        _START,
        _F.OUTPUT_PERMISSION_DENIED,
        _F.DATA_PATH_MISSING,
        kind="source",
    ),
    row(
        r"error while creating mount source path '(?P<path2>[^']+)'"
        r"|[Mm]ounts denied|is not shared from (?:the host|OS X)|statfs (?P<path3>/[^\s:]+): no such file or directory"
        r"|invalid mode: /|includes invalid characters for a local volume name"
        r"|invalid mount config for type|invalid volume specification|invalid bind mount spec",
        _SAID,
        _MOUNT,
        0.96,
        _START,
        _F.OUTPUT_PERMISSION_DENIED,
        _F.DATA_PATH_MISSING,
        kind="source",
    ),
    row(
        r"[Aa]re you trying to mount a directory (?:on)?to a file|error mounting \\?\"(?P<path>[^\"\\]+)\\?\" to rootfs"
        r"|mount destination .{0,100}not absolute|[Dd]uplicate mount point|cannot mount over"
        r"|mount path must be absolute"
        r"|error mounting \S+ to rootfs|invalid mount path|\bmount through procfd: ",
        _SAID,
        _MOUNT,
        0.95,
        _START,
        _F.OUTPUT_PERMISSION_DENIED,
        _F.DATA_PATH_MISSING,
        kind="type",
    ),
    row(
        r"error gathering device information while adding custom device \\?\"(?P<path>(?!/dev/(?:nvidia|dri))[^\"\\]+)",
        _SAID,
        _MOUNT,
        0.9,
        kind="source",
    ),
    # Ports and names.
    row(
        r"Bind for [\d.:\[\]]+:(?P<port>\d+) failed: port is already allocated"
        r"|[Pp]orts are not available.*?:(?P<port2>\d+)"
        r"|port is already allocated|[Pp]ort (?P<port3>\d+) is already allocated",
        _SAID,
        _F.PORT_CONFLICT,
        0.97,
        _F.RENDEZVOUS_PORT_IN_USE,
    ),
    row(
        r"(?:userland proxy|rootlessport|slirp4netns|bind host port|programming external connectivity|failed to bind"
        r"|starting container|cannot expose port|cannot listen on the \w+ port)"
        r"\b.*?:(?P<port>\d+)[:/ ].*address already in use",
        _SAID,
        _F.PORT_CONFLICT,
        0.97,
        _F.RENDEZVOUS_PORT_IN_USE,
    ),
    row(
        r"(?i:container) ?name \\?\"/?(?P<container>[^\"\\]+)\\?\" is already in use"
        r"|[Ff]ailed to purge container (?P<container2>\w+)|failed to reserve container name \"?(?P<container3>[\w.-]+)"
        r"|container already exists|\bcontainer with name \"?(?P<container4>[\w.-]+)\"? already exists",
        _SAID,
        _F.CONTAINER_NAME_CONFLICT,
        0.97,
        mild=True,
    ),
    # The task driver.
    row(
        r"[Cc]annot connect to the [Dd]ocker daemon|[Ff]ailed to connect to docker daemon"
        r"|docker daemon (?:is )?not running"
        r"|permission denied while trying to connect to the [Dd]ocker daemon|[Ff]ailed to create docker client"
        r"|dial unix \S*docker\.sock",
        _SAID,
        _DRIVER,
        0.92,
        _F.IMAGE_PULL_TRANSIENT,
        _F.REGISTRY_AUTH_DENIED,
        driver="docker",
    ),
    row(
        r"\bdial unix \S*/(?P<driver>podman|containerd|crio)\S*\.sock: ",
        _SAID,
        _DRIVER,
        0.92,
        _F.IMAGE_PULL_TRANSIENT,
        _F.REGISTRY_AUTH_DENIED,
        _F.OUTPUT_PERMISSION_DENIED,
    ),
    row(
        # A network plugin that a node lacks is none of these: its message names the folders that were looked into.
        r"\bfailed to (?:dispense|find) (?:driver|plugin)\b(?!.{0,60} in path \[)[ :\"]*(?P<driver>\w*)"
        r"|\b[Dd]river plugin \"?(?P<driver4>[\w-]+)\"? (?:is )?not"
        r"|\b(?:unknown|unsupported) (?:task )?driver[ :\"]+(?P<driver2>\w+)"
        r"|\bdriver \"?(?P<driver3>[\w-]+)\"? (?:is )?(?:not found|not enabled|disabled|unhealthy)"
        r"|\b(?:exec|java) driver(?: \w+){0,3} (?:requires|must (?:be )?run as) root"
        r"|\bdriver not (?:found|detected|initialized)",
        (_EVENT, Origin.LOG, Origin.VALIDATION),
        _DRIVER,
        0.92,
        _F.JOBSPEC_INVALID,
        _F.NOMAD_OBJECT_NOT_FOUND,
    ),
    # Volumes of the cluster.
    row(
        r"\bcould not claim volume (?P<volume>[^\s:]+)",
        (_EVENT, Origin.LOG, Origin.VALIDATION),
        _VOLUME,
        0.94,
        _F.JOBSPEC_INVALID,
        _F.NOMAD_OBJECT_NOT_FOUND,
        _START,
        kind="csi",
    ),
    row(
        r"\bno host volume named: (?P<volume2>\S+)|\bclaiming volumes: "
        r"|\bvolume max claims reached|\bCSI client error|\bvolume is currently unschedulable"
        r"|\bhost volume validation error|volume not available from claim|\bnode plugin returned an internal error"
        r"|\bcontroller plugin returned an internal error"
        r"|\bvolume \"?(?P<volume3>[\w./-]+)\"? (?:not found|does not exist)"
        r"|\bvolume not found: (?P<volume4>\S+)|\bpre-?run hook \"csi_hook\" failed",
        (_EVENT, Origin.LOG, Origin.VALIDATION),
        _VOLUME,
        0.93,
        _F.JOBSPEC_INVALID,
        _F.NOMAD_OBJECT_NOT_FOUND,
        _START,
    ),
    row(
        r"VolumeDriver\.\w+\\?\": dial|[Ee]rror looking up volume plugin (?P<plugin>\S+?):"
        r"|failed to mount local volume: "
        r"|\berror while mounting volume '(?P<path>[^']+)'"
        r"|\bplugin \"(?P<volume>[^\"]+)\" not found.{0,40}volume",
        _SAID,
        _VOLUME,
        0.93,
        _MOUNT,
        _START,
    ),
)
