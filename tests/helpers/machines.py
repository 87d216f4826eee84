"""Two machines, as far as one kernel can pretend: namespaces of their own for network, host name and hosts file."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager

# Each machine resolves its own name to itself alone, as Debian's installer sets it up.
HOSTS = {
    "node-1": "127.0.0.1 localhost\n127.0.1.1 node-1\n10.77.0.2 node-2\n",
    "node-2": "127.0.0.1 localhost\n127.0.1.1 node-2\n10.77.0.1 node-1\n",
}
ADDRESSES = {"node-1": "10.77.0.1/24", "node-2": "10.77.0.2/24"}
ENTER = 'mount --bind "$1" /etc/hosts && echo "$2" > /proc/sys/kernel/hostname && shift 2 && exec "$@"'


def ip(*words):
    """Return what iproute2 prints. Raise CalledProcessError if it fails."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def namespace(node):
    """Return the name of a node's namespace, which no other test has."""
    return f"sagan-{os.getpid()}-{node}"


def why_not(folder):
    """Return why there can be no machines here, or nothing if there can be."""
    if missing := [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]:
        return f"{missing[0]} is not installed"
    try:
        with two_machines(folder):
            subprocess.run([*inside("node-1", folder), "true"], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.strip()}"
    return ""


@contextmanager
def two_machines(folder):
    """Hold two namespaces that a pair of virtual Ethernet devices joins; end every process in them afterwards."""
    try:
        for node in HOSTS:
            ip("netns", "add", namespace(node))
            (folder / f"hosts-{node}").write_text(HOSTS[node])
        ends = [["name", "eth0", "netns", namespace(node)] for node in HOSTS]
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for node, address in ADDRESSES.items():
            ip("-n", namespace(node), "address", "add", address, "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", namespace(node), "link", "set", device, "up")
        yield
    finally:
        for node in HOSTS:
            if namespace(node) in ip("netns", "list"):
                lose(node)
                ip("netns", "delete", namespace(node))


def inside(node, folder):
    """Return the beginning of a command that runs on a node."""
    own = ["unshare", "--uts", "--mount", "sh", "-c", ENTER, "sh", str(folder / f"hosts-{node}"), node]
    return ["ip", "netns", "exec", namespace(node), *own]


def lose(node):
    """Kill every process of a node at once."""
    for pid in ip("netns", "pids", namespace(node)).split():
        os.kill(int(pid), signal.SIGKILL)
