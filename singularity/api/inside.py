"""The process in a container that calls functions for `ContainerExecutor`: `python3 -c TEXT`, with this very text.

It runs in whatever Python 3 the image has, and imports nothing of ours.

Messages in and out have their length before them, in eight bytes. First it says which Python it is, then it is given
cloudpickle as source text, then one call after the other. What functions print goes to standard error.
"""
# mypy: ignore-errors

import os
import pickle
import select
import sys
import threading
import traceback
import types

HEAD = 8


def read(source):
    """The next message; None where there is none."""
    head = source.read(HEAD)
    return source.read(int.from_bytes(head, "big")) if len(head) == HEAD else None


def install(texts):
    """Makes modules of source texts, the package first."""
    for name, _ in texts:
        module = types.ModuleType(name)
        module.__file__ = "<%s of the caller>" % name
        if "." not in name:
            module.__path__ = []
        sys.modules[name] = module
    for name, text in reversed(texts):
        exec(compile(text, "<%s of the caller>" % name, "exec"), sys.modules[name].__dict__)
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], sys.modules[name])


def watch(fd):
    """Ends this process as soon as nobody can call any more, whatever it is at."""
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    os._exit(1)


def outcome(call, pickler):
    """What a call comes to: whether it is a result, that or the exception, and where that came from."""
    try:
        function, args, options = pickle.loads(call)
        return pickler.dumps((True, function(*args, **options), ""))
    except BaseException as error:
        said = traceback.format_exc()
        try:
            data = pickler.dumps((False, error, said))
            pickle.loads(data)
            return data
        except Exception:
            return pickler.dumps((False, RuntimeError("%s: %s" % (type(error).__name__, error)), said))


def main():
    """Answers calls until there are no more."""
    out = os.fdopen(os.dup(1), "wb")
    source = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def say(data):
        out.write(len(data).to_bytes(HEAD, "big") + data)
        out.flush()

    say(("%d.%d %s" % (sys.version_info[0], sys.version_info[1], sys.implementation.name)).encode())
    texts = read(source)
    if texts is None:
        return
    threading.Thread(target=watch, args=(source.fileno(),), daemon=True).start()
    install(pickle.loads(texts))
    pickler = sys.modules["cloudpickle"]
    while True:
        call = read(source)
        if call is None:
            os._exit(0)  # without the end of the thread, for which some images lack a library
        answer = outcome(call, pickler)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        say(answer)


if __name__ == "__main__":
    main()
