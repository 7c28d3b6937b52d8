# shellcheck shell=bash
# Owns: the wires: bridge, client addresses, one port (network namespace + veth)
# per machine, cutting and mending a port.
# Must never: touch an interface that is not fleet*, give the host a route to the
# containers (users go through ssh), or let lab traffic leave the machine.

# The host's end of a machine's wire (15 characters at most).
port_of() {
  case $1 in
    jump-*) echo "fleet-j${1#jump-}" ;;
    coordinator-*) echo "fleet-c${1#coordinator-}" ;;
    postgres) echo fleet-pg ;;
    standby) echo fleet-sb ;;
    etcd) echo fleet-etcd ;;
    balancer) echo fleet-lb ;;
  esac
}

fabric_up() {
  local i holder
  if [[ ! -e /sys/class/net/$BRIDGE ]]; then
    holder=$(ip -o -4 addr show to 10.99.0.0/16 | awk '{ print $2; exit }')
    [[ -z $holder ]] || fail "10.99.0.0/16 is in use on this machine ($holder): the lab needs it"
    # A fixed MAC: left alone, a bridge takes the lowest of its ports', so a crashed
    # node would change it, and everybody's ARP entry for the host be wrong for 10 s.
    ip link add "$BRIDGE" address 02:10:99:00:00:01 type bridge stp_state 0 forward_delay 0
  fi
  ip link set "$BRIDGE" addrgenmode none up
  ip addr replace "$BRIDGE_ADDRESS/24" dev "$BRIDGE"
  for ((i = FIRST_CLIENT; i <= LAST_CLIENT; i++)); do
    echo "addr replace 10.99.0.$i/32 dev $BRIDGE"
  done | ip -batch -
  ip addr replace "$INTERNET_ADDRESS/32" dev "$BRIDGE"
  ip route replace "$BALANCER_ADDRESS/32" via "$BALANCER_OWN_ADDRESS" src "$BRIDGE_ADDRESS"
  # Lab machines have the host as default route; it must not pass anything on.
  nft -f - <<NFT
table inet containarium_lab
delete table inet containarium_lab
table inet containarium_lab {
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    iifname "$BRIDGE" oifname != "$BRIDGE" drop
    oifname "$BRIDGE" iifname != "$BRIDGE" drop
  }
}
NFT
}

# Makes (or completes) a machine's port: fabric_plug NAME ADDRESS
fabric_plug() {
  local name=$1 address=$2 port
  port=$(port_of "$name")
  [[ -e /run/netns/$name ]] || ip netns add "$name"
  if [[ ! -e /sys/class/net/$port ]]; then
    # A fixed MAC: peers' ARP entries stay right when the machine comes back.
    ip link add "$port" type veth peer name eth0 address "02:10:99:00:00:$(printf %02x "${address##*.}")" netns "$name"
    ip link set "$port" addrgenmode none
  fi
  ip link set "$port" master "$BRIDGE" up
  ip -n "$name" -batch - <<BATCH
link set lo up
link set eth0 addrgenmode none up
addr replace $address/24 dev eth0
BATCH
}

fabric_unplug() {
  local port
  port=$(port_of "$1")
  if [[ -e /sys/class/net/$port ]]; then ip link del "$port"; fi
}

# A cut port is disabled in the bridge: silence in both directions, link still up,
# nothing for either side to notice but time. The kernel holds the state.
fabric_cut() { bridge link set dev "$(port_of "$1")" state 0; }
fabric_mend() { bridge link set dev "$(port_of "$1")" state 3; }
fabric_is_cut() {
  local port
  port=$(port_of "$1")
  [[ -e /sys/class/net/$port && $(</sys/class/net/"$port"/brport/state) == 0 ]]
}

# A node's routes and the kernel's manners of a direct-return backend.
fabric_dress_node() {
  local name=$1 index peer
  index=$(node_index "$name")
  {
    echo "route replace default via $BRIDGE_ADDRESS"
    # The balancer's address is ours too, but nobody may ask us for it by ARP.
    echo "addr replace $BALANCER_ADDRESS/32 dev lo"
    for ((peer = 1; peer <= MAX_NODES; peer++)); do
      ((peer == index)) || echo "route replace 10.100.$peer.0/24 via 10.99.0.$((10 + peer))"
    done
  } | ip -n "$name" -batch -
  netns_sysctl "$name" net.ipv4.ip_forward=1 net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 \
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0 net.ipv4.conf.all.accept_redirects=0
}

netns_sysctl() {
  local name=$1
  shift
  nsenter --net="/run/netns/$name" sysctl -q -w "$@"
}

readonly NETNS_NAMES="(jump-[0-9]+|coordinator-[0-9]+|postgres|standby|etcd|balancer)"
lab_netns() { find /run/netns -maxdepth 1 -regextype posix-extended -regex ".*/$NETNS_NAMES" -printf '%f\n' 2>/dev/null || true; }
lab_links() { ip -o link show | sed -n 's/^[0-9]*: \(fleet[^:@]*\).*/\1/p' | grep -E "^($BRIDGE|fleet-(j[0-9]+|c[0-9]+|pg|sb|etcd|lb))$" || true; }

fabric_down() {
  local name
  while read -r name; do ip link del "$name" 2>/dev/null || true; done < <(lab_links)
  while read -r name; do ip netns del "$name"; done < <(lab_netns)
  nft delete table inet containarium_lab 2>/dev/null || true
}
