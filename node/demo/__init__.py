"""``kosmos demo``: the whole main job on one machine, over real sockets, with real images."""
