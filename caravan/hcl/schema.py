"""The blocks of Nomad's job specification: names, the JSON keys that they become, and their types.

A block is a line with its type's name, then its fields as `name:JsonKey:type`. A name ends with `!` where the
argument is required and with `{}` where it is a block; `@` is the block's label, `-` is what only the server sets.
Types: `str`, `bool`, `duration`, integers by their size; `?` may be null, `~` is left out when null; `[T]` list,
`{T}` map, `<T>` map of blocks by label; anything else names a block type. Nomad 2.0.6.
"""

from functools import lru_cache
from typing import Final, NamedTuple

JOB_BLOCKS: Final = """
Job
  region:Region:str? namespace:Namespace:str? id:ID:str? name:Name:str? type:Type:str? priority:Priority:int?
  all_at_once:AllAtOnce:bool? datacenters:Datacenters:[str] node_pool:NodePool:str?
  constraint{}:Constraints:[Constraint] affinity{}:Affinities:[Affinity] group{}:TaskGroups:[TaskGroup]
  update{}:Update:UpdateStrategy? multiregion{}:Multiregion:Multiregion? spread{}:Spreads:[Spread]
  periodic{}:Periodic:PeriodicConfig? parameterized{}:ParameterizedJob:ParameterizedJobConfig?
  reschedule{}:Reschedule:ReschedulePolicy? migrate{}:Migrate:MigrateStrategy? meta{}:Meta:{str}
  ui{}:UI:JobUIConfig? -:Stop:bool? -:ParentID:str? -:Dispatched:bool -:DispatchIdempotencyToken:str?
  -:Payload:str? -:ConsulNamespace:str? -:VaultNamespace:str? -:NomadTokenID:str? -:Status:str?
  -:StatusDescription:str? -:Stable:bool? -:Version:uint64? -:SubmitTime:int64? -:CreateIndex:uint64?
  -:ModifyIndex:uint64? -:JobModifyIndex:uint64? -:VersionTag:JobVersionTag?
Constraint
  attribute:LTarget:str value:RTarget:str operator:Operand:str
Affinity
  attribute:LTarget:str value:RTarget:str operator:Operand:str weight:Weight:int8?
TaskGroup
  @name:Name:str? count:Count:int? constraint{}:Constraints:[Constraint] affinity{}:Affinities:[Affinity]
  task{}:Tasks:[Task] spread{}:Spreads:[Spread] volume{}:Volumes:<VolumeRequest>
  restart{}:RestartPolicy:RestartPolicy? disconnect{}:Disconnect:DisconnectStrategy?
  reschedule{}:ReschedulePolicy:ReschedulePolicy? ephemeral_disk{}:EphemeralDisk:EphemeralDisk?
  update{}:Update:UpdateStrategy? migrate{}:Migrate:MigrateStrategy? network{}:Networks:[NetworkResource]
  meta{}:Meta:{str} service{}:Services:[Service] shutdown_delay:ShutdownDelay:duration?
  max_run_duration:MaxRunDuration:duration? stop_after_client_disconnect:StopAfterClientDisconnect:duration?
  max_client_disconnect:MaxClientDisconnect:duration? scaling{}:Scaling:ScalingPolicy? consul{}:Consul:Consul?
  prevent_reschedule_on_lost:PreventRescheduleOnLost:bool?
Task
  @name:Name:str driver:Driver:str user:User:str lifecycle{}:Lifecycle:TaskLifecycle? config{}:Config:{any}
  constraint{}:Constraints:[Constraint] affinity{}:Affinities:[Affinity] env{}:Env:{str}
  service{}:Services:[Service] resources{}:Resources:Resources? restart{}:RestartPolicy:RestartPolicy?
  meta{}:Meta:{str} kill_timeout:KillTimeout:duration? logs{}:LogConfig:LogConfig?
  artifact{}:Artifacts:[TaskArtifact] vault{}:Vault:Vault? consul{}:Consul:Consul?
  template{}:Templates:[Template] dispatch_payload{}:DispatchPayload:DispatchPayloadConfig?
  volume_mount{}:VolumeMounts:[VolumeMount] csi_plugin{}:CSIPluginConfig:TaskCSIPluginConfig?~
  leader:Leader:bool shutdown_delay:ShutdownDelay:duration kill_signal:KillSignal:str kind:Kind:str
  scaling{}:ScalingPolicies:[ScalingPolicy] secret{}:Secrets:[Secret] -:Identity:WorkloadIdentity?
  identity{}:Identities:[WorkloadIdentity] action{}:Actions:[Action] schedule{}:Schedule:TaskSchedule?
TaskLifecycle
  hook!:Hook:str sidecar:Sidecar:bool
Service
  name:Name:str tags:Tags:[str] canary_tags:CanaryTags:[str] enable_tag_override:EnableTagOverride:bool
  port:PortLabel:str address_mode:AddressMode:str address:Address:str check{}:Checks:[ServiceCheck]
  check_restart{}:CheckRestart:CheckRestart? connect{}:Connect:ConsulConnect? meta{}:Meta:{str}
  canary_meta{}:CanaryMeta:{str} tagged_addresses{}:TaggedAddresses:{str} task:TaskName:str
  on_update:OnUpdate:str identity{}:Identity:WorkloadIdentity? weights{}:Weights:ServiceWeights?
  provider:Provider:str cluster:Cluster:str kind:Kind:str
ServiceCheck
  name:Name:str type:Type:str command:Command:str args:Args:[str] path:Path:str protocol:Protocol:str
  port:PortLabel:str expose:Expose:bool address_mode:AddressMode:str advertise:Advertise:str
  interval:Interval:duration timeout:Timeout:duration initial_status:InitialStatus:str notes:Notes:str
  tls_server_name:TLSServerName:str tls_skip_verify:TLSSkipVerify:bool header{}:Header:{[str]} method:Method:str
  check_restart{}:CheckRestart:CheckRestart? grpc_service:GRPCService:str grpc_use_tls:GRPCUseTLS:bool
  task:TaskName:str success_before_passing:SuccessBeforePassing:int
  failures_before_critical:FailuresBeforeCritical:int failures_before_warning:FailuresBeforeWarning:int
  body:Body:str on_update:OnUpdate:str
CheckRestart
  limit:Limit:int grace:Grace:duration? ignore_warnings:IgnoreWarnings:bool
Resources
  cpu:CPU:int? cores:Cores:int? memory:MemoryMB:int? memory_max:MemoryMaxMB:int? disk:DiskMB:int?
  network{}:Networks:[NetworkResource] device{}:Devices:[RequestedDevice] numa{}:NUMA:NUMAResource?
  secrets:SecretsMB:int? iops:IOPS:int?
NetworkResource
  mode:Mode:str device:Device:str cidr:CIDR:str ip:IP:str dns{}:DNS:DNSConfig?
  reserved_ports{}:ReservedPorts:[Port] port{}:DynamicPorts:[Port] hostname:Hostname:str mbits:MBits:int?
  cni{}:CNI:CNIConfig?
DNSConfig
  servers:Servers:[str] searches:Searches:[str] options:Options:[str]
Port
  @:Label:str static:Value:int to:To:int host_network:HostNetwork:str ignore_collision:IgnoreCollision:bool
CNIConfig
  args:Args:{str}
RequestedDevice
  @:Name:str count:Count:uint64? constraint{}:Constraints:[Constraint] affinity{}:Affinities:[Affinity]
NUMAResource
  affinity:Affinity:str devices:Devices:[str]
LogConfig
  max_files:MaxFiles:int? max_file_size:MaxFileSizeMB:int? enabled:Enabled:bool? disabled:Disabled:bool?
VolumeMount
  volume:Volume:str? destination:Destination:str? read_only:ReadOnly:bool? propagation_mode:PropagationMode:str?
  selinux_label:SELinuxLabel:str?
WorkloadIdentity
  name:Name:str aud:Audience:[str] change_mode:ChangeMode:str change_signal:ChangeSignal:str env:Env:bool
  file:File:bool filepath:Filepath:str service_name:ServiceName:str ttl:TTL:duration
  extra_claims:ExtraClaims:[str]
ServiceWeights
  passing:Passing:int warning:Warning:int
RestartPolicy
  interval:Interval:duration? attempts:Attempts:int? delay:Delay:duration? mode:Mode:str?
  render_templates:RenderTemplates:bool?
TaskArtifact
  source:GetterSource:str? options{}:GetterOptions:{str} headers{}:GetterHeaders:{str} mode:GetterMode:str?
  insecure:GetterInsecure:bool? destination:RelativeDest:str? chown:Chown:bool
Vault
  policies:Policies:[str] role:Role:str namespace:Namespace:str? cluster:Cluster:str env:Env:bool?
  disable_file:DisableFile:bool? change_mode:ChangeMode:str? change_signal:ChangeSignal:str?
  allow_token_expiration:AllowTokenExpiration:bool?
Consul
  namespace:Namespace:str cluster:Cluster:str partition:Partition:str
Template
  source:SourcePath:str? destination:DestPath:str? data:EmbeddedTmpl:str? change_mode:ChangeMode:str?
  change_script{}:ChangeScript:ChangeScript? change_signal:ChangeSignal:str? once:Once:bool?
  splay:Splay:duration? perms:Perms:str? uid:Uid:int? gid:Gid:int? left_delimiter:LeftDelim:str?
  right_delimiter:RightDelim:str? env:Envvars:bool? vault_grace:VaultGrace:duration? wait{}:Wait:WaitConfig?
  error_on_missing_key:ErrMissingKey:bool?
ChangeScript
  command:Command:str? args:Args:[str] timeout:Timeout:duration? fail_on_error:FailOnError:bool?
  run_on_first_render:RunOnFirstRender:bool?
WaitConfig
  min:Min:duration? max:Max:duration?
DispatchPayloadConfig
  file:File:str
TaskCSIPluginConfig
  id:ID:str type:Type:str mount_dir:MountDir:str stage_publish_base_dir:StagePublishBaseDir:str
  health_timeout:HealthTimeout:duration
ScalingPolicy
  min:Min:int64? max:Max:int64? policy{}:Policy:{any} enabled:Enabled:bool? type:Type:str -:ID:str
  -:Namespace:str -:Target:{str} -:CreateIndex:uint64 -:ModifyIndex:uint64
Secret
  @name:Name:str provider:Provider:str path:Path:str config{}:Config:{any} env{}:Env:{str}
Action
  @name:Name:str command!:Command:str args:Args:[str]
TaskSchedule
  cron{}:Cron:TaskScheduleCron?
TaskScheduleCron
  start:Start:str end:End:str timezone:Timezone:str
Spread
  attribute:Attribute:str weight:Weight:int8? target{}:SpreadTarget:[SpreadTarget]
SpreadTarget
  @:Value:str percent:Percent:uint8
VolumeRequest
  @name:Name:str type:Type:str source:Source:str read_only:ReadOnly:bool sticky:Sticky:bool
  access_mode:AccessMode:str attachment_mode:AttachmentMode:str mount_options{}:MountOptions:CSIMountOptions?
  per_alloc:PerAlloc:bool
CSIMountOptions
  fs_type:FSType:str mount_flags:MountFlags:[str]
DisconnectStrategy
  lost_after:LostAfter:duration? stop_on_client_after:StopOnClientAfter:duration? replace:Replace:bool?
  reconcile:Reconcile:str?
ReschedulePolicy
  attempts:Attempts:int? interval:Interval:duration? delay:Delay:duration? delay_function:DelayFunction:str?
  max_delay:MaxDelay:duration? unlimited:Unlimited:bool?
EphemeralDisk
  sticky:Sticky:bool? migrate:Migrate:bool? size:SizeMB:int?
UpdateStrategy
  stagger:Stagger:duration? max_parallel:MaxParallel:int? health_check:HealthCheck:str?
  min_healthy_time:MinHealthyTime:duration? healthy_deadline:HealthyDeadline:duration?
  progress_deadline:ProgressDeadline:duration? canary:Canary:int? auto_revert:AutoRevert:bool?
  auto_promote:AutoPromote:bool?
MigrateStrategy
  max_parallel:MaxParallel:int? health_check:HealthCheck:str? min_healthy_time:MinHealthyTime:duration?
  healthy_deadline:HealthyDeadline:duration?
Multiregion
  strategy{}:Strategy:MultiregionStrategy? region{}:Regions:[MultiregionRegion]
MultiregionStrategy
  max_parallel:MaxParallel:int? on_failure:OnFailure:str?
MultiregionRegion
  @:Name:str count:Count:int? datacenters:Datacenters:[str] node_pool:NodePool:str meta{}:Meta:{str}
PeriodicConfig
  enabled:Enabled:bool? cron:Spec:str? crons:Specs:[str] -:SpecType:str? prohibit_overlap:ProhibitOverlap:bool?
  time_zone:TimeZone:str?
ParameterizedJobConfig
  payload:Payload:str meta_required:MetaRequired:[str] meta_optional:MetaOptional:[str]
JobUIConfig
  description:Description:str link{}:Links:[JobUILink]
JobUILink
  label:Label:str url:URL:str
"""

CONSUL_BLOCKS: Final = """
ConsulConnect
  native:Native:bool gateway{}:Gateway:ConsulGateway? sidecar_service{}:SidecarService:ConsulSidecarService?
  sidecar_task{}:SidecarTask:SidecarTask?
ConsulGateway
  proxy{}:Proxy:ConsulGatewayProxy? ingress{}:Ingress:ConsulIngressConfigEntry?
  terminating{}:Terminating:ConsulTerminatingConfigEntry? mesh{}:Mesh:ConsulMeshConfigEntry?
ConsulGatewayProxy
  connect_timeout:ConnectTimeout:duration?
  envoy_gateway_bind_tagged_addresses:EnvoyGatewayBindTaggedAddresses:bool
  envoy_gateway_bind_addresses{}:EnvoyGatewayBindAddresses:<ConsulGatewayBindAddress>
  envoy_gateway_no_default_bind:EnvoyGatewayNoDefaultBind:bool
  envoy_dns_discovery_type:EnvoyDNSDiscoveryType:str config{}:Config:{any}
ConsulGatewayBindAddress
  @:Name:str address:Address:str port:Port:int
ConsulIngressConfigEntry
  tls{}:TLS:ConsulGatewayTLSConfig? listener{}:Listeners:[ConsulIngressListener]
ConsulGatewayTLSConfig
  enabled:Enabled:bool tls_min_version:TLSMinVersion:str tls_max_version:TLSMaxVersion:str
  cipher_suites:CipherSuites:[str] sds{}:SDS:ConsulGatewayTLSSDSConfig?
ConsulGatewayTLSSDSConfig
  cluster_name:ClusterName:str cert_resource:CertResource:str
ConsulIngressListener
  port:Port:int protocol:Protocol:str service{}:Services:[ConsulIngressService]
ConsulIngressService
  name:Name:str hosts:Hosts:[str] tls{}:TLS:ConsulGatewayTLSConfig?
  request_headers{}:RequestHeaders:ConsulHTTPHeaderModifiers?
  response_headers{}:ResponseHeaders:ConsulHTTPHeaderModifiers? max_connections:MaxConnections:uint32?
  max_pending_requests:MaxPendingRequests:uint32? max_concurrent_requests:MaxConcurrentRequests:uint32?
ConsulHTTPHeaderModifiers
  add{}:Add:{str} set{}:Set:{str} remove:Remove:[str]
ConsulTerminatingConfigEntry
  service{}:Services:[ConsulLinkedService]
ConsulLinkedService
  name:Name:str ca_file:CAFile:str cert_file:CertFile:str key_file:KeyFile:str sni:SNI:str
ConsulMeshConfigEntry
ConsulSidecarService
  tags:Tags:[str] port:Port:str proxy{}:Proxy:ConsulProxy? disable_default_tcp_check:DisableDefaultTCPCheck:bool
  meta{}:Meta:{str}
ConsulProxy
  local_service_address:LocalServiceAddress:str local_service_port:LocalServicePort:int
  expose{}:Expose:ConsulExposeConfig? -:ExposeConfig:ConsulExposeConfig? upstreams{}:Upstreams:[ConsulUpstream]
  transparent_proxy{}:TransparentProxy:ConsulTransparentProxy? config{}:Config:{any}
ConsulExposeConfig
  path{}:Paths:[ConsulExposePath] -:Path:[ConsulExposePath]
ConsulExposePath
  path:Path:str protocol:Protocol:str local_path_port:LocalPathPort:int listener_port:ListenerPort:str
ConsulUpstream
  destination_name:DestinationName:str destination_namespace:DestinationNamespace:str
  destination_peer:DestinationPeer:str destination_partition:DestinationPartition:str
  destination_type:DestinationType:str local_bind_port:LocalBindPort:int datacenter:Datacenter:str
  local_bind_address:LocalBindAddress:str local_bind_socket_path:LocalBindSocketPath:str
  local_bind_socket_mode:LocalBindSocketMode:str mesh_gateway{}:MeshGateway:ConsulMeshGateway?
  config{}:Config:{any}
ConsulMeshGateway
  mode:Mode:str
ConsulTransparentProxy
  uid:UID:str outbound_port:OutboundPort:uint16 exclude_inbound_ports:ExcludeInboundPorts:[str]
  exclude_outbound_ports:ExcludeOutboundPorts:[uint16] exclude_outbound_cidrs:ExcludeOutboundCIDRs:[str]
  exclude_uids:ExcludeUIDs:[str] no_dns:NoDNS:bool
SidecarTask
  name:Name:str driver:Driver:str user:User:str config{}:Config:{any} env{}:Env:{str}
  resources{}:Resources:Resources? meta{}:Meta:{str} kill_timeout:KillTimeout:duration?
  logs{}:LogConfig:LogConfig? shutdown_delay:ShutdownDelay:duration? kill_signal:KillSignal:str
  volume_mount{}:VolumeMounts:[VolumeMount] identity{}:Identities:[WorkloadIdentity]
"""


class Field(NamedTuple):
    """A field of a block type. `role` is attribute, block, label or server."""

    name: str
    key: str
    type: str
    role: str
    required: bool
    nullable: bool
    omitted: bool


@lru_cache(maxsize=1)
def block_types() -> dict[str, tuple[Field, ...]]:
    """All block types by name."""
    found: dict[str, tuple[Field, ...]] = {}
    current = ""
    for line in (JOB_BLOCKS + CONSUL_BLOCKS).strip().splitlines():
        if not line.startswith(" "):
            current = line.strip()
            found[current] = ()
        else:
            found[current] += tuple(_field(item) for item in line.split())
    return found


def _field(item: str) -> Field:
    name, key, kind = item.split(":")
    omitted = kind.endswith("~")
    kind = kind.rstrip("~")
    nullable = kind.endswith("?") or kind[0] in "[{<"
    role = "block" if name.endswith("{}") else "label" if name[0] == "@" else "server" if name == "-" else "attribute"
    return Field(name.strip("{}!@-"), key, kind.rstrip("?"), role, name.endswith("!"), nullable, omitted)


def absent(field: Field) -> object:
    """The JSON value of a field that is not set."""
    if field.nullable:
        return None
    return {"str": "", "bool": False}.get(field.type, 0)
