# shellcheck shell=bash
# Owns: the lab as a whole: who owns it, up, down, what is left of it, status.
# Must never: take over a live lab of another checkout, or forget on the way down
# something that `up` made.

# More than the kernel's defaults: all unprivileged containers share one range of
# host uids, so the 12th systemd would find no inotify instance left.
readonly SYSCTLS=(
  fs.inotify.max_user_instances=65536 fs.inotify.max_user_watches=1048576
  fs.inotify.max_queued_events=1048576 kernel.keys.maxkeys=20000 kernel.keys.maxbytes=20000000
)

marker_owner() { sed -n 's/^checkout=//p' "$MARKER" 2>/dev/null || true; }
lab_is_live() { [[ -n $(cgroup_pids) ]]; }

claim() {
  local owner
  owner=$(marker_owner)
  if [[ -n $owner && $owner != "$LAB_REPO" ]]; then
    if lab_is_live; then
      fail_with $E_FOREIGN "a lab of $owner is up; stop it with: $LAB_REPO/deploy/lab/lab down"
    fi
    say "clearing what a dead lab of $owner left behind (its files stay: $owner/target/lab)"
    sweep_kernel
  fi
  {
    echo "checkout=$LAB_REPO"
    # What to put back on the way down, noted by the first `up`.
    if [[ $owner == "$LAB_REPO" ]]; then grep '^sysctl=' "$MARKER" || true; fi
  } >"$MARKER.new"
  mv -f "$MARKER.new" "$MARKER"
}

# The values from before, to put back, are kept in the marker: only raised here.
tune_host() {
  local setting key want have
  for setting in "${SYSCTLS[@]}"; do
    key=${setting%=*} want=${setting#*=}
    have=$(sysctl -n "$key")
    ((have < want)) || continue # so a second `up` notes nothing
    echo "sysctl=$key=$have" >>"$MARKER"
    sysctl -q -w "$setting"
  done
}
restore_host() {
  local setting
  while read -r setting; do sysctl -q -w "$setting"; done < <(sed -n 's/^sysctl=//p' "$MARKER" 2>/dev/null)
}

cmd_up() {
  local count="" ha="" i name number started=$SECONDS
  while (($# > 0)); do
    case $1 in
      --nodes) count=${2:-}; shift; shift || true ;;
      --ha) ha=${LAB_ELECTION:-etcd}; shift ;;
      *) fail_with $E_USAGE "usage: lab up [--nodes N] [--ha]" ;;
    esac
  done
  [[ ${count:-1} =~ ^[1-9][0-9]?$ ]] && ((${count:-1} <= MAX_NODES)) ||
    fail_with $E_USAGE "--nodes takes a number from 1 to $MAX_NODES"
  [[ ${ha:-etcd} =~ ^(etcd|sql)$ ]] || fail_with $E_USAGE "LAB_ELECTION is etcd or sql"
  [[ -z $ha ]] || ! is_bare || fail_with $E_USAGE "a bare lab has no coordinators"
  [[ -z $ha || -z $(known_nodes) ]] || is_ha || fail_with $E_STATE "this lab has one coordinator, on SQLite (lab down)"
  need_tools
  [[ -z $ha ]] || need_store_tools
  is_bare || need_programs
  if [[ -z $count && -z $(known_nodes) ]]; then count=3; fi
  claim
  tune_host
  mkdir -p "$NODES_DIR" "$RUN_DIR" "$LOG_DIR"
  if [[ -n $ha ]] && ! is_ha; then echo "$ha" >"$HA_FILE"; fi
  for ((i = 1; i <= ${count:-0}; i++)); do mkdir -p "$NODES_DIR/jump-$i"; done
  fabric_up
  is_bare || ensure_certs
  if is_ha; then stores_start; fi
  start_nodes
  balancer_start
  if ! is_bare; then
    if is_ha; then stores_ready; fi
    for number in $(coordinator_numbers); do coordinator_start "$number"; done
    for name in $(known_nodes); do agent_start "$name"; done
    register_all
  fi
  wait_for 15 balancer_has_all || fail "the balancer does not find all nodes healthy (only: $(balancer_healthy)): see $LOG_DIR/balancer.log"
  write_env
  say "up in $((SECONDS - started)) s: $(known_nodes | paste -sd' '); for its settings: . $LAB_DIR/env"
}

# All at once; each tells its own failure.
start_nodes() {
  local name pids=() failed=0 pid
  for name in $(known_nodes); do
    if fabric_is_cut "$name"; then
      fabric_mend "$name"
      say "$name was partitioned: healed"
    fi
    node_start "$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  ((!failed)) || fail "not all nodes came up (what runs is left running; lab down clears it)"
}

# Everything of a lab that the kernel holds; files are not touched.
sweep_kernel() {
  local name
  cgroup_kill
  for name in $(lab_netns); do
    # Of a process that someone moved out of our groups.
    ip netns pids "$name" | xargs -r kill -9 2>/dev/null || true
  done
  fabric_down
  cgroup_remove
  restore_host
}

# A node's pool goes by the path it has inside the node; an Incus of this machine's
# own has the same one, but then the file is really there.
lab_loops() {
  local name inode file
  losetup -nO NAME,BACK-INO,BACK-FILE | while read -r name inode file; do
    [[ $file == */incus/disks/default.img* ]] || continue
    [[ $(stat -c %i "$file" 2>/dev/null) == "$inode" && $file != *target/lab* ]] || echo "$name $file"
  done
}
lab_mounts() { awk '$5 ~ "/target/lab/|^/run/netns/'"$NETNS_NAMES"'$" { print $5 }' /proc/self/mountinfo; }
no_loops() { [[ -z $(lab_loops) ]]; }

cmd_down() {
  local owner dir
  owner=$(marker_owner)
  sweep_kernel
  for dir in "$LAB_REPO" ${owner:+"$owner"}; do
    use_lab_of "$dir"
    [[ -d $LAB_DIR ]] || continue
    wait_for 20 no_loops || { lab_loops | awk '{ print $1 }' | xargs -r losetup -d || true; }
    rm -rf --one-file-system "$LAB_DIR"
  done
  rm -f "$MARKER" "$MARKER.new"
  use_lab_of "$LAB_REPO"
  cmd_leftovers
}

cmd_leftovers() {
  local found=0 line
  while read -r line; do
    [[ -n $line ]] || continue
    found=1
    echo "$line"
  done < <(
    for pid in $(cgroup_pids); do echo "process $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"; done
    lab_netns | sed 's/^/namespace /'
    lab_links | sed 's/^/interface /'
    lab_mounts | sed 's/^/mount /'
    lab_loops | sed 's/^/loop device /'
    cgroup_hierarchies | while read -r dir; do [[ ! -d $dir/$CGROUP_NAME ]] || echo "control group $dir/$CGROUP_NAME"; done
    if nft list tables 2>/dev/null | grep -q containarium_lab; then echo "nft table containarium_lab"; fi
    ip route show "$BALANCER_ADDRESS/32" | sed 's/^/route /'
    [[ ! -e $MARKER ]] || echo "file $MARKER"
    [[ ! -e $LAB_DIR ]] || echo "files $LAB_DIR"
  )
  ((!found)) || fail_with $E_LEFTOVERS "the above is left of a lab (lab down clears it)"
}

node_state() {
  if ! node_is_running "$1"; then
    echo crashed
  elif fabric_is_cut "$1"; then
    echo partitioned
  else
    echo running
  fi
}

node_status_json() {
  local name=$1 state healthy=false
  state=$(node_state "$name")
  if grep -qw -- "$name" "$RUN_DIR/healthy" 2>/dev/null; then healthy=true; fi
  jq -n --arg name "$name" --arg address "$(node_address "$name")" --arg state "$state" \
    --arg pid "$(node_pid "$name" || true)" --arg incusd "$(node_service_pid "$name" incusd || true)" \
    --arg sshd "$(node_service_pid "$name" sshd || true)" --arg agent "$(node_service_pid "$name" agent || true)" \
    --argjson healthy "$healthy" --argjson containers_running "$(node_containers "$name")" \
    'def pid: if . == "" then null else tonumber end;
     {$name, $address, $state, pid: ($pid | pid), in_node_pids: {incusd: ($incusd | pid), sshd: ($sshd | pid), agent: ($agent | pid)},
      $containers_running, balancer_healthy: $healthy}'
}

daemon_json() { # NAME ADDRESS [LEADS]
  jq -n --arg name "$1" --arg address "$2" --arg pid "$(host_pid_of "$1" || true)" --arg leads "${3:-}" \
    '{$name, $address, pid: (if $pid == "" then null else ($pid | tonumber) end)} +
      if $leads == "" then {} else {leads: ($leads == "true")} end'
}
coordinators_json() {
  local number leading
  leading=$(leader 2>/dev/null || true)
  for number in $(coordinator_numbers); do
    daemon_json "$(coordinator_name "$number")" "$(coordinator_address "$number"):$COORDINATOR_PORT" \
      "$([[ $number == "$leading" ]] && echo true || echo false)"
  done | jq -s .
}
stores_json() {
  local store
  if is_ha; then
    for store in $STORES; do daemon_json "$store" "$(store_address "$store")"; done
  fi | jq -s .
}

status_json() {
  local name owner
  owner=$(marker_owner)
  for name in $(known_nodes); do node_status_json "$name"; done | jq -s \
    --arg owner "$owner" --argjson coordinators "$(coordinators_json)" --argjson stores "$(stores_json)" \
    --arg balancer "$(host_pid_of balancer || true)" --arg healthy "$(balancer_healthy)" \
    'def pid: if . == "" then null else tonumber end;
     {checkout: $owner, nodes: ., $coordinators, $stores,
      balancer: {address: "'$BALANCER_ADDRESS'", pid: ($balancer | pid), healthy: ($healthy | split(" "))}}'
}

cmd_status() {
  local owner status
  owner=$(marker_owner)
  [[ -n $owner ]] || fail_with $E_STATE "there is no lab (lab up)"
  use_lab_of "$owner"
  case "$*" in
    "-o json") status_json ;;
    "")
      status=$(status_json)
      echo "lab of $owner"
      jq -r '["NODE", "STATE", "ADDRESS", "PID", "INCUSD", "SSHD", "AGENT", "CONTAINERS", "BALANCED"],
        (.nodes[] | [.name, .state, .address, .pid // "-", (.in_node_pids | .incusd, .sshd, .agent | if . then "up" else "down" end),
          .containers_running, if .balancer_healthy then "yes" else "no" end]) | @tsv' <<<"$status" | column -ts $'\t'
      jq -r '((.coordinators + .stores)[] |
          "\(.name) \(.address) \(if .pid then "pid \(.pid)" else "down" end)\(if .leads then ", leads" else "" end)"),
        "balancer \(.balancer.address) \(if .balancer.pid then "pid \(.balancer.pid)" else "down" end), healthy: \(.balancer.healthy | join(" "))"' <<<"$status"
      ;;
    *) fail_with $E_USAGE "usage: lab status [-o json]" ;;
  esac
}
