# shellcheck shell=bash
# Owns: our own programs in the lab: certificates, agents, coordinator, telling
# the coordinator its nodes; and the balancer's loop.
# Must never: know how the programs work inside; only their command lines.

cli() {
  CONTAINARIUM_SERVER=$(coordinator_urls) CONTAINARIUM_CERTS_DIR=$CERTS_DIR \
    timeout 20 "$(bin_dir)/containarium" "$@"
}

need_programs() {
  local program bins
  bins=$(bin_dir)
  for program in containarium containarium-agent containarium-coordinator; do
    [[ -x $bins/$program ]] || fail_with $E_MISSING \
      "$bins/$program is missing: run cargo build, or set LAB_BIN_DIR, or LAB_BARE=1 for a lab without our programs"
  done
  [[ -s $(image_dir)/current.json ]] || fail_with $E_MISSING "no image in $(image_dir): run deploy/image/bake"
}

ensure_certs() {
  local name number names=()
  for number in $(coordinator_numbers); do names+=(--server-ip "$(coordinator_address "$number")"); done
  while read -r name; do names+=(--node "$name"); done < <(known_nodes)
  mkdir -p "$LOG_DIR"
  "$(bin_dir)/containarium" cert generate --server-ip 127.0.0.1 "${names[@]}" \
    --output-dir "$CERTS_DIR" >>"$LOG_DIR/cert.log" 2>&1 ||
    fail "cert generate failed: $(tail -n 3 "$LOG_DIR/cert.log") (see $LOG_DIR/cert.log)"
  chmod 0700 "$CERTS_DIR"
}

agent_start() {
  local name=$1 root dir
  node_service_pid "$name" agent >/dev/null && return
  root=$(node_root "$name")
  pid_in_node_alive "$root" agent.supervisor && return # between a death and the next start
  [[ $(<"$root/run/lab/bin-source") == "$(bin_dir)" ]] || fail_with $E_STATE \
    "$name was booted with programs from $(<"$root/run/lab/bin-source"), now it is $(bin_dir): lab crash $name; lab start $name"
  dir=$root/etc/containarium/certs
  install -d -m 0700 "$dir"
  install -m 0644 "$CERTS_DIR/ca.crt" "$CERTS_DIR/agent-$name.crt" "$dir/"
  install -m 0600 "$CERTS_DIR/agent-$name.key" "$dir/"
  node_supervise "$name" agent containarium-agent --node "$name" --listen "$(node_address "$name"):$AGENT_PORT" \
    --certs-dir /etc/containarium/certs --state-dir /var/lib/containarium/agent --host linux \
    --incus-socket /var/lib/incus/unix.socket --storage-pool default --network incusbr0 \
    --image-dir /run/lab/images --boot-id-file /run/boot_id --metadata-server http://169.254.169.254 \
    --backup-store file:///srv/containarium-backups --activity-every 5s --ssh-log /var/log/auth.log
}
pid_in_node_alive() { local pid; pid=$(cat "$1/run/lab/$2" 2>/dev/null) && [[ -d $1/proc/$pid ]]; }

# --- daemons beside the nodes ---

host_pid_of() { # NAME [supervisor|pid]
  local pid
  pid=$(cat "$RUN_DIR/$1.${2:-pid}" 2>/dev/null) && [[ -n $pid ]] && cgroup_has_pid host "$pid" || return 1
  echo "$pid"
}

host_supervise() { # [--apart] NETNS NAME CMD...    --apart: also mounts and System V memory of its own
  local netns name apart=()
  if [[ $1 == --apart ]]; then
    apart=(unshare --mount --ipc --propagation private)
    shift
  fi
  netns=$1 name=$2
  shift 2
  host_pid_of "$name" supervisor >/dev/null && return
  mkdir -p "$RUN_DIR" "$LOG_DIR"
  cgroup_create host
  (
    exec {LOCK_FD}>&- </dev/null >>"$LOG_DIR/$name.log" 2>&1
    cgroup_join host
    cd /
    exec setsid nsenter --net="/run/netns/$netns" "${apart[@]}" \
      bash "$LAB_CODE/lib/supervise" "$RUN_DIR" "$name" "$LOG_DIR/$name.log" "$@"
  ) &
  wait_for 5 host_pid_of "$name" >/dev/null || fail "$name did not start: see $LOG_DIR/$name.log"
}

host_supervised_is_gone() { ! host_pid_of "$1" supervisor >/dev/null && ! host_pid_of "$1" >/dev/null; }
host_unsupervise() {
  local pid
  pid=$(host_pid_of "$1" supervisor) || return 0
  kill -TERM "$pid"
  wait_for 10 host_supervised_is_gone "$1" || fail "$1 did not stop within 10 s"
}

coordinator_start() {
  local number=$1 name listen election options=()
  name=$(coordinator_name "$number") listen=$(coordinator_address "$number"):$COORDINATOR_PORT
  if ((number == 1)); then options+=(--socket "$COORDINATOR_SOCKET"); fi
  if is_ha; then
    election=${LAB_ELECTION:-$(<"$HA_FILE")}
    options+=(--database-file "$DATABASE_FILE" --advertise "$listen" --election "$election")
    # No container may reach the others, or the stores.
    options+=(--closed-network 10.99.0.4/30 --closed-network 10.99.0.8/31)
    if [[ $election == etcd ]]; then options+=(--etcd "https://$ETCD_ADDRESS:2379" --etcd-certs-dir "$STORE_CERTS_DIR"); fi
  fi
  fabric_plug "coordinator-$number" "$(coordinator_address "$number")"
  mkdir -p "$LAB_DIR/$name"
  host_supervise "coordinator-$number" "$name" "$(bin_dir)/containarium-coordinator" \
    --listen "$listen" --state-dir "$LAB_DIR/$name" --certs-dir "$CERTS_DIR" --jump-address $BALANCER_ADDRESS "${options[@]}"
}

cmd_coordinator() {
  local usage="lab coordinator stop|start|kill|pid [N], lab coordinator leader" verb=${1:-} number=${2:-} name pid
  case $verb in
    leader) leader; return ;;
    stop | start | kill | pid) ;;
    *) fail_with $E_USAGE "usage: $usage" ;;
  esac
  [[ -n $number ]] || ! is_ha || fail_with $E_USAGE "which of the three? usage: $usage"
  number=${number:-1}
  coordinator_numbers | grep -qx -- "$number" || fail_with $E_STATE "there is no coordinator $number in this lab"
  name=$(coordinator_name "$number")
  case $verb in
    start) need_programs; coordinator_start "$number" ;;
    stop) host_unsupervise "$name" ;;
    kill | pid)
      pid=$(host_pid_of "$name") || fail_with $E_STATE "the coordinator is not running"
      if [[ $verb == kill ]]; then kill -9 "$pid"; else echo "$pid"; fi
      ;;
  esac
}

balancer_start() {
  local node
  fabric_plug balancer $BALANCER_OWN_ADDRESS
  netns_sysctl balancer net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0 \
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
  if host_pid_of balancer supervisor >/dev/null; then return; fi
  ip -n balancer rule flush
  {
    echo "rule add pref 32766 lookup main"
    for ((node = 1; node <= MAX_NODES; node++)); do
      echo "rule add pref $((100 + node)) fwmark $node lookup $((100 + node))"
      echo "route replace default via 10.99.0.$((10 + node)) dev eth0 table $((100 + node))"
    done
  } | ip -n balancer -batch -
  # A pass-through balancer: the packet goes on unchanged, to the node its mark
  # names, and the node answers the client itself. A connection once placed stays
  # with its node; a new one follows the map `pick`, which balancer-loop writes.
  nsenter --net=/run/netns/balancer nft -f - <<NFT
flush ruleset
table ip balancer {
  map placed { type ipv4_addr . inet_service : mark; flags timeout; timeout 1h; size 65535; }
  chain pick { }
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    ip daddr != $BALANCER_ADDRESS accept
    tcp dport != 22 drop
    ip protocol != tcp drop
    tcp flags & (syn|ack) != syn meta mark set ip saddr . tcp sport map @placed
    # A SYN sent again after its first node died is placed afresh ("update" alone
    # would keep the old node for the packets that follow).
    tcp flags & (syn|ack) == syn delete @placed { ip saddr . tcp sport : 0 }
    meta mark 0 jump pick
    meta mark 0 drop
    update @placed { ip saddr . tcp sport : meta mark }
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    meta mark != 0 accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    tcp sport { 22, $HEALTH_PORT } accept
  }
}
NFT
  local health=$HEALTH_PORT
  if is_bare; then health=ssh; fi
  host_supervise balancer balancer bash "$LAB_CODE/lib/balancer-loop" "$NODES_DIR" "$RUN_DIR/healthy" "$health"
}
balancer_healthy() { cat "$RUN_DIR/healthy" 2>/dev/null || true; }
balancer_has_all() { [[ $(balancer_healthy | tr ' ' '\n' | sort) == "$(known_nodes | sort)" ]]; }

# --- joining them up ---

register_node() { cli node add "$1" --address "$(node_address "$1"):$AGENT_PORT" >"$LOG_DIR/register-$1.log" 2>&1; }
node_is_online() {
  cli node list -o json 2>>"$LOG_DIR/node-list.log" |
    jq -e --arg name "$1" '.nodes[] | select(.name == $name) | .availability == "Online"' >/dev/null
}
node_has_image() { (node_exec "$1" incus query "/1.0/images/$2") >/dev/null 2>&1; }

register_all() {
  local name fingerprint
  for name in $(known_nodes); do
    wait_for 30 register_node "$name" ||
      fail "node add $name failed: $(tail -n 2 "$LOG_DIR/register-$name.log") (see $LOG_DIR/coordinator*.log)"
  done
  for name in $(known_nodes); do
    wait_for 40 node_is_online "$name" ||
      fail "$name does not come Online: see $LOG_DIR/coordinator*.log and $NODES_DIR/$name/log/agent.log"
  done
  fingerprint=$(jq -r .fingerprint "$(image_dir)/current.json")
  for name in $(known_nodes); do
    wait_for 120 node_has_image "$name" "$fingerprint" ||
      fail "$name does not get the image ${fingerprint:0:12}: see $NODES_DIR/$name/log/agent.log"
  done
}

write_env() {
  mkdir -p "$LAB_DIR/ssh.d"
  cat >"$LAB_DIR/ssh_config" <<SSH
# For demo and test users of this lab: nothing of ~/.ssh is read or written.
# Put what \`containarium export --output\` writes into $LAB_DIR/ssh.d/NAME.conf, with
# --known-hosts $LAB_DIR/known_hosts. What is not exported has no host key to be known by.
Include $LAB_DIR/ssh.d/*.conf
Host *
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  ConnectTimeout 10
SSH
  cat >"$LAB_DIR/env.new" <<ENV
# Written by \`lab up\`; use with: . $LAB_DIR/env
export PATH="$(bin_dir):$LAB_CODE:\$PATH"
export CONTAINARIUM_SERVER="$(coordinator_urls)"
export CONTAINARIUM_CERTS_DIR="$CERTS_DIR"
export LAB_DIR="$LAB_DIR"
export LAB_NODES="$(known_nodes | paste -sd' ')"
export LAB_BALANCER="$BALANCER_ADDRESS"
export LAB_IMAGE_DIR="$(image_dir)"
export LAB_INTERNET="$INTERNET_ADDRESS"
export LAB_SSH_CONFIG="$LAB_DIR/ssh_config"
export LAB_COORDINATOR_SOCKET="$COORDINATOR_SOCKET"
export LAB_CLIENTS="$(seq -s' ' -f '10.99.0.%g' $FIRST_CLIENT $LAST_CLIENT)"
ENV
  mv -f "$LAB_DIR/env.new" "$LAB_DIR/env"
}
