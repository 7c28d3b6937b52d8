# shellcheck shell=bash
# Owns: names, addresses and paths of the lab; messages, exit codes, the lock.
# Must never: start, stop or change anything.

readonly LAB_CODE=$LAB_REPO/deploy/lab
readonly MARKER=/run/containarium-lab

# The network. Node i has 10.99.0.(10+i) and holds the containers of 10.100.i.0/24.
readonly MAX_NODES=20
readonly BRIDGE=fleet0
readonly BRIDGE_ADDRESS=10.99.0.1
readonly BALANCER_OWN_ADDRESS=10.99.0.2
readonly COORDINATORS=3 # of a lab with several, at 10.99.0.5 to .7
readonly COORDINATOR_PORT=7443
readonly POSTGRES_ADDRESS=10.99.0.8
readonly ETCD_ADDRESS=10.99.0.9
readonly STANDBY_ADDRESS=10.99.0.4 # until it takes over the database's own
readonly STORES="postgres etcd"
readonly AGENT_PORT=7444
readonly HEALTH_PORT=7445
readonly BALANCER_ADDRESS=10.99.100.1
readonly INTERNET_ADDRESS=198.51.100.1 # of the host; stands in for whatever is out there
readonly FIRST_CLIENT=201 LAST_CLIENT=216 # 10.99.0.x on the bridge, to choose a node by
readonly POOL_SIZE=${LAB_POOL_SIZE:-400GiB} # a sparse file: room for 1x disk reservations

# Exit codes, told in `lab help`.
readonly E_FAILED=1 E_USAGE=2 E_FOREIGN=3 E_STATE=4 E_LEFTOVERS=5 E_MISSING=6

# In the lab of which checkout we work: our own, but `down` cleans any.
use_lab_of() {
  LAB_OWNER=$1
  LAB_DIR=$1/target/lab
  NODES_DIR=$LAB_DIR/nodes
  RUN_DIR=$LAB_DIR/run
  LOG_DIR=$LAB_DIR/logs
  CERTS_DIR=$LAB_DIR/certs
  BACKUPS_DIR=$LAB_DIR/backups # what a bucket is elsewhere: every node has it
  COORDINATOR_SOCKET=$LAB_DIR/coordinator.sock
  HA_FILE=$LAB_DIR/ha # of a lab with several coordinators: their election
  STORE_CERTS_DIR=$LAB_DIR/store-certs
  DATABASE_FILE=$LAB_DIR/database
}

say() { echo "lab: $*" >&2; }
fail() { echo "lab: $*" >&2; exit $E_FAILED; }
fail_with() { local code=$1; shift; echo "lab: $*" >&2; exit "$code"; }

need_root() { [[ $(id -u) == 0 ]] || fail_with $E_USAGE "must run as root"; }

need_tools() {
  local tool
  for tool in /usr/libexec/incus/incusd incus lxcfs /usr/sbin/sshd tini nft jq bridge losetup unshare nsenter \
    mkfs.btrfs dnsmasq ssh-keygen uuidgen fail2ban-server; do
    command -v "$tool" >/dev/null || fail_with $E_MISSING "$tool is missing: run deploy/packages/install first"
  done
  [[ $LAB_DIR != *[:,\ \\]* ]] || fail_with $E_MISSING "the checkout's path may not have ':', ',', '\\' or spaces: $LAB_REPO"
  # The kernel keeps 108 bytes for the path of a unix socket.
  ((${#COORDINATOR_SOCKET} < 107)) || fail_with $E_MISSING "the checkout's path is too long for a unix socket: $COORDINATOR_SOCKET"
}

# One lab command at a time changes things. The lock is on a directory, so there
# is no lock file to leave behind; daemons are started with it closed.
take_lock() {
  mkdir -p /run/lock
  exec {LOCK_FD}</run/lock
  flock -n "$LOCK_FD" && return
  say "another lab command is running, waiting for it"
  flock -w 180 "$LOCK_FD" || fail "gave up after 180 s: another lab command still runs"
}

# Polls until a command succeeds: wait_for SECONDS CMD...
wait_for() {
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/./} < deadline)) || return 1
    sleep 0.1
  done
}

node_index() {
  [[ $1 =~ ^jump-([1-9][0-9]*)$ ]] && ((BASH_REMATCH[1] <= MAX_NODES)) ||
    fail_with $E_USAGE "'$1' is not a node: nodes are jump-1 to jump-$MAX_NODES"
  echo "${BASH_REMATCH[1]}"
}
node_address() { echo "10.99.0.$((10 + $(node_index "$1")))"; }

# A node by its own address, or by its address in its container network.
node_of_address() {
  local name
  for name in $(known_nodes); do
    [[ $1 != "$(node_address "$name")" && $1 != "10.100.$(node_index "$name").1" ]] || { echo "$name"; return; }
  done
  fail_with $E_STATE "no node of this lab has the address $1"
}

# Coordinators. A lab has one, on SQLite, or was brought up with --ha.
is_ha() { [[ -s $HA_FILE ]]; }
coordinator_numbers() { if is_ha; then seq $COORDINATORS; else echo 1; fi; }
coordinator_name() { if is_ha; then echo "coordinator-$1"; else echo coordinator; fi; }
coordinator_address() { echo "10.99.0.$((4 + $1))"; }
coordinator_urls() {
  local number
  for number in $(coordinator_numbers); do echo "https://$(coordinator_address "$number"):$COORDINATOR_PORT"; done | paste -sd,
}

# Nodes this lab has, running or not, one per line.
known_nodes() {
  local dir
  for dir in "$NODES_DIR"/jump-*; do
    [[ -d $dir ]] && basename "$dir"
  done | sort -t- -k2n
}
need_node() {
  node_index "$1" >/dev/null
  [[ -d $NODES_DIR/$1 ]] || fail_with $E_STATE "there is no node $1 in this lab (lab up --nodes N)"
}

# Where our programs are taken from.
bin_dir() {
  if [[ -n ${LAB_BIN_DIR:-} ]]; then
    realpath -m "$LAB_BIN_DIR"
  elif [[ -x $LAB_REPO/target/release/containarium-agent ]]; then
    echo "$LAB_REPO/target/release"
  else
    echo "$LAB_REPO/target/debug"
  fi
}
image_dir() { realpath -m "${LAB_IMAGE_DIR:-$LAB_REPO/target/image}"; }
is_bare() { [[ ${LAB_BARE:-} == 1 ]]; }
