"""Runs a program as on a system without IPv6: socket(2) of that family fails with EAFNOSUPPORT.

usage: without_ipv6.py PROGRAM [ARGUMENT ...]
"""

import ctypes
import os
import platform
import struct
import sys

# The architecture's number in the audit framework, and that of socket(2).
ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AF_INET6, EAFNOSUPPORT = 10, 97
# Classic BPF; the offsets are those of struct seccomp_data.
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
CALL_NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def instruction(code: int, value: int, if_equal: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_equal, otherwise, value)


def deny_ipv6() -> None:
    architecture, socket = ARCHITECTURES[platform.machine()]
    instructions = [
        instruction(LOAD, ARCHITECTURE),
        instruction(JUMP_IF_EQUAL, architecture, otherwise=5),
        instruction(LOAD, CALL_NUMBER),
        instruction(JUMP_IF_EQUAL, socket, otherwise=3),
        instruction(LOAD, FIRST_ARGUMENT),
        instruction(JUMP_IF_EQUAL, AF_INET6, otherwise=1),
        instruction(RETURN, FAIL | EAFNOSUPPORT),
        instruction(RETURN, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    for option in (
        (PR_SET_NO_NEW_PRIVS, 1, None, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0),
    ):
        if prctl(*option):
            raise SystemExit("prctl: " + os.strerror(ctypes.get_errno()))


deny_ipv6()
os.execv(sys.argv[1], sys.argv[1:])
