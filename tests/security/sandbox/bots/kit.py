import ctypes, errno, os, signal, socket, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)


def say(name, verdict):
    print(name, verdict, flush=True)


def attempt(name, work):
    """Prints what became of it: the error's name, or `worked`."""
    try:
        done = work()
        say(name, "worked" if done is None or done else "nothing")
    except OSError as error:
        say(name, errno.errorcode.get(error.errno, str(error)))


def call(number, *arguments):
    """A system call as it is; raises what the kernel says."""
    ctypes.set_errno(0)
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    done = libc.syscall(ctypes.c_long(number), *values)
    if done == -1:
        raise OSError(ctypes.get_errno(), "")
    return True


def in_child(work):
    """In a child that may be killed; the name of its signal, or what it raised."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(write, b"worked")
        except OSError as error:
            os.write(write, errno.errorcode.get(error.errno, "?").encode())
        finally:
            os._exit(0)
    os.close(write)
    said = os.read(read, 64).decode()
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return said
