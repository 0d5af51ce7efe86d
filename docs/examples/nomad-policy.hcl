# The smallest ACL policy with which Caravan works in the namespace "default".
#
#   nomad acl policy apply -namespace default caravan nomad-policy.hcl
#   nomad acl token create -name caravan -policy caravan -ttl 720h
#
# `python main.py doctor` probes each right. Blocks marked "optional" may be left out; what goes without them then
# stands in docs/nomad.md under "Rights".

namespace "default" {
  capabilities = [
    "parse-job",       # HCL to JSON
    "submit-job",      # dry run, registration, stop
    "read-job",        # jobs, allocations, evaluations, events
    "read-logs",       # stdout and stderr
    "read-fs",         # the job's result file, and outputs
    "csi-list-volume", # optional: which CSI volumes there are
  ]

  variables {
    # Where jobs find their secrets. "write" is optional: with it Caravan can store what you offer, and lend an agent
    # on the cluster (--on-cluster) its token, which "destroy" takes back.
    path "nomad/jobs" {
      capabilities = ["read", "write"]
    }
    path "nomad/jobs/*" {
      capabilities = ["read", "write", "destroy"]
    }
  }
}

# The inventory that plans are made from.
node {
  policy = "read"
}

# Optional: the servers' own version.
agent {
  policy = "read"
}

# Optional: for doctor.
operator {
  policy = "read"
}

# Optional: for doctor.
node_pool "*" {
  policy = "read"
}

# Only where jobs mount host volumes: name those that they may use ("read" mounts them read-only).
# host_volume "checkpoints" {
#   policy = "write"
# }
