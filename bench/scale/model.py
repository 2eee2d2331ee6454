"""From what one launch was seen to ask to what a cluster asks of its file system.

The assumptions, on which every figure of docs/hpc/scale.md rests:

1. The image lies on the parallel file system, in its top directory; /etc, /usr and the rest of the host are the node's
   own. Where `shared_runtime` is set, the program that launches lies there too, with its configuration, or with the
   interpreter and the library of Python; shared libraries of the system stay the node's.
2. A node that starts has nothing of them in memory. From its first launch on it keeps names (absent ones too),
   attributes and data: it asks for each once, however many launches follow.
3. Each open goes to the server every time, as with NFS (close-to-open) and with Lustre as it comes. With
   `opens_cached` the node asks for each file once.
4. One name looked up, one open, one call that lists a directory are one metadata operation each. The close that follows
   an open, and locks, are not counted: they come on top for everybody.
5. All nodes start at the same moment, and no node gets anything from another one, but for `staging`.
"""

from __future__ import annotations

from dataclasses import dataclass

DEEPEST, BLOCK = 64, 256 << 10  # of `singularity stage`: nodes one below another, bytes that are handed on together


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one launch asks of the files of one owner."""

    names: int = 0  # distinct directory entries, there or not
    opens: int = 0
    files: int = 0  # distinct files that are opened
    lists: int = 0
    bytes: int = 0  # that a node without any of them in memory fetches

    def __add__(self, other: Asked) -> Asked:
        return Asked(
            names=self.names + other.names,
            opens=self.opens + other.opens,
            files=self.files + other.files,
            lists=self.lists + other.lists,
            bytes=self.bytes + other.bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One way to launch: the first on a node, and each that follows while the node remembers."""

    image: Asked
    runtime: Asked
    next_image_opens: int  # of each launch that follows
    next_runtime_opens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """How many start, and where the launching program lies."""

    nodes: int
    launches: int  # on each node, the first included
    shared_runtime: bool = False
    opens_cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """What a parallel file system gives to all nodes together; taken as even and without queues."""

    operations: float  # metadata operations a second
    bandwidth: float  # bytes a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Of all nodes together."""

    operations: int
    bytes: int

    def seconds(self, system: FileSystem) -> float:
        """The least time in which the file system can have answered: metadata and data are served beside each other."""
        return max(self.operations / system.operations, self.bytes / system.bandwidth)


def demand(launch: Launch, cluster: Cluster) -> Demand:
    """What `cluster` asks when it starts."""
    asked = launch.image + launch.runtime if cluster.shared_runtime else launch.image
    following = launch.next_image_opens + (launch.next_runtime_opens if cluster.shared_runtime else 0)
    if cluster.opens_cached:
        node = asked.names + asked.files + asked.lists
    else:
        node = asked.names + asked.opens + asked.lists + (cluster.launches - 1) * following
    return Demand(operations=cluster.nodes * node, bytes=cluster.nodes * asked.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What one node gets and gives."""

    bandwidth: float  # bytes a second, in each direction
    hop: float  # seconds that a block waits in a node, beside the time of its bytes


def staging(size: int, nodes: int, network: Network, system: FileSystem) -> float:
    """The seconds until all nodes have an image of `size` bytes by `singularity stage`: a chain, of many a tree.

    One node reads it. A node that sends to two others gives each half of what it has.
    """
    deepest, share = min(nodes - 1, DEEPEST), 1 if nodes - 1 <= DEEPEST else 2
    rate = min(network.bandwidth / share, system.bandwidth)
    return size / rate + deepest * (BLOCK / network.bandwidth + network.hop)
