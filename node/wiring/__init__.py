"""The one place where actors are built and bound to doors.

Rooms never import each other: the repository gets its registry as a function, the publisher
its repository as a URL, an endpoint its handlers. Here those functions are chosen, by the
configuration: an actor of this node is called in process, any other over SOAP. One module for
each process, so that none imports what it does not serve.
"""
