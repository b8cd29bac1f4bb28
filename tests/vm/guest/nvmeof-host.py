"""Hosts of NVMe/RDMA in user space, made of PyPI's nvmeof and ibverbs.

    nvmeof-host.py use ADDRESS PORT NQN BYTES FILE
    nvmeof-host.py load ADDRESS PORT NQN
    nvmeof-host.py rude ADDRESS PORT NQN
    nvmeof-host.py silent ADDRESS PORT

`use` writes, flushes and reads in every way there is, keeps in FILE what must be at the start of
the volume of BYTES afterwards, and says "used". `load` keeps a queue full until it is killed, and
says "loaded" once that goes well. `rude` breaks every rule of the transport that a host can break,
each on connections of its own, and says "was rude"; another host must not notice. `silent` connects
and says nothing more but "silent" on its output.
"""

import os
import random
import struct
import sys
import time
import uuid

import ibverbs as ib
import nvmeof
from nvmeof import protocol

KIB = 1024
MIB = 1024 * KIB
# The kernel's target has other codes for some errors.
OURS = os.environ.get("TARGET") == "bedplate"
ACCESS = (
    ib.AccessFlags.LOCAL_WRITE | ib.AccessFlags.REMOTE_WRITE | ib.AccessFlags.REMOTE_READ
)


def connect(address, port, nqn, **options):
    return nvmeof.Controller.connect(address, nqn, port=int(port), source=address, **options)


def say(words):
    print(words, flush=True)


# --- use


def use(address, port, nqn, bytes_, path):
    with connect(address, port, nqn, queue_depth=32) as controller:
        namespace = controller.namespace(1)
        size = namespace.lba_size * namespace.info.size_lbas
        assert size == int(bytes_), f"the namespace has {size} bytes"
        assert controller.max_transfer_bytes >= MIB, controller.max_transfer_bytes
        content = bytearray(os.urandom(8 * MIB))
        pieces(controller, namespace, content)
        full_queue(controller, namespace, content)
        refusals(controller, namespace)
        with open(path, "wb") as file:
            file.write(content)
    say("used")


def pieces(controller, namespace, content):
    """Lengths from a block to more than a command may move, from and to memory of any alignment."""
    block = namespace.lba_size
    with controller.allocate(4 * MIB) as buffer:
        for write_sizes, read_sizes in [((1, 7, 31, 32, 33), (64,)), ((256, 300), (1, 255, 513))]:
            for first, count, shift in spread(len(content) // block, write_sizes):
                buffer.write(content[first * block : (first + count) * block], shift)
                namespace.write(buffer, first, count, buffer_offset=shift)
            namespace.flush()
            for first, count, shift in spread(len(content) // block, read_sizes):
                buffer.write(bytes(count * block), shift)
                namespace.read(buffer, first, count, buffer_offset=shift)
                got = buffer.read(count * block, shift)
                assert got == content[first * block : (first + count) * block], (first, count)
            content[:] = content[block:] + content[:block]
            # Now every block differs from what is there.
    with controller.allocate(len(content)) as buffer:
        buffer.write(content)
        namespace.write(buffer, 0)
        namespace.flush()


def spread(blocks, sizes):
    """Ranges that cover `blocks`, of `sizes` in turn, each with a place in memory."""
    first = 0
    while first < blocks:
        for size in sizes:
            count = min(size, blocks - first)
            if count:
                yield first, count, random.choice([0, 1, 13, 512, 4096])
            first += count


def full_queue(controller, namespace, content):
    """As many commands in flight as the queue takes, answered in any order."""
    block = namespace.lba_size
    queue = controller.io
    count = queue.depth - 1
    with controller.allocate(count * block) as buffer:
        for opcode in [protocol.OPC_WRITE, protocol.OPC_READ]:
            if opcode == protocol.OPC_WRITE:
                fresh = os.urandom(count * block)
                content[: len(fresh)] = fresh
                buffer.write(fresh)
            else:
                buffer.write(bytes(count * block))
            requests = [
                queue.submit(
                    protocol.rw_command(
                        opcode, 1, slot, 1, buffer, lba_size=block, buffer_offset=slot * block
                    )
                )
                for slot in range(count)
            ]
            try:
                queue.submit(protocol.identify(buffer, controller=True))
                raise AssertionError("the queue has no end")
            except nvmeof.QueueFullError:
                pass
            await_all(queue, requests, 60)
        assert buffer.read() == fresh


def refusals(controller, namespace):
    """What is wrong with one command is that command's error, and of no other."""
    block = namespace.lba_size
    with controller.allocate(8 * block) as buffer:

        def command(slba=0, blocks=8):
            made = protocol.rw_command(
                protocol.OPC_READ, 1, slba, blocks, buffer, lba_size=block
            )
            return bytearray(made)

        beyond = command(slba=namespace.info.size_lbas)
        short = command()
        short[32:35] = (7 * block).to_bytes(3, "little")
        unknown_descriptor = command()
        unknown_descriptor[39] = 0xA0
        unknown_opcode = command()
        unknown_opcode[0] = 0x7E
        other_namespace = command()
        struct.pack_into("<I", other_namespace, 4, 77)
        for what, wrong, codes in [
            ("beyond the end", beyond, {0x80}),
            ("shorter than its blocks", short, {0x0F}),
            ("unknown SGL descriptor", unknown_descriptor, {0x02, 0x0D, 0x11}),
            ("unknown opcode", unknown_opcode, {0x01}),
            ("unknown namespace", other_namespace, {0x0B}),
        ]:
            try:
                controller.io.execute(bytes(wrong), data_owner=buffer)
                raise AssertionError(f"{what}: it was done")
            except nvmeof.NVMeStatusError as error:
                completion = error.completion
                found = (completion.status_type, completion.status_code)
                assert not OURS or found[0] == 0 and found[1] in codes, f"{what}: {found}"
            namespace.read(buffer, 0, 8)


def await_all(queue, requests, seconds):
    deadline = time.monotonic() + seconds
    while not all(request.done for request in requests):
        assert time.monotonic() < deadline, f"not answered within {seconds} s"
        queue.poll()
    for request in requests:
        request.response.raise_for_status()


# --- load


def load(address, port, nqn):
    with connect(address, port, nqn, queue_depth=16) as controller:
        namespace = controller.namespace(1)
        blocks = 64 * KIB // namespace.lba_size
        buffer = controller.allocate(64 * KIB)
        done = 0
        while True:
            try:
                opcode = random.choice([protocol.OPC_READ, protocol.OPC_WRITE])
                slba = random.randrange(namespace.info.size_lbas // blocks) * blocks
                controller.io.submit(
                    protocol.rw_command(
                        opcode, 1, slba, blocks, buffer, lba_size=namespace.lba_size
                    )
                )
            except nvmeof.QueueFullError:
                # It is full: whenever the end comes, commands are under way.
                before = done
                for request in controller.io.poll():
                    request.response.raise_for_status()
                    done += 1
                if before < 32 <= done:
                    say("loaded")


# --- rude


class Peer:
    """A queue pair without any manners: it sends what it is told to."""

    def __init__(self, address, port, receives=8):
        self.cm = ib.CMID.resolve(address, int(port), source=address)
        self.pd = self.cm.context.alloc_pd()
        self.cq = self.cm.context.create_cq(128)
        self.qp = self.cm.create_qp(
            self.pd,
            ib.QPInitAttr(
                send_cq=self.cq,
                recv_cq=self.cq,
                qp_type=ib.QPType.RC,
                max_send_wr=64,
                max_recv_wr=64,
                max_send_sge=1,
                max_recv_sge=1,
            ),
        )
        self.memory = nvmeof.HostBuffer(self.pd, 256 * KIB, ACCESS)
        self.receives = receives

    def connect(self, private_data):
        self.cm.connect(private_data, responder_resources=4)
        for _ in range(self.receives):
            self.qp.post_recv([ib.RecvWR(wr_id=1, sg_list=[self.memory.mr.sge(64, 128 * KIB)])])

    def send(self, data):
        self.memory.write(data)
        self.qp.post_send(
            ib.SendWR(
                wr_id=2,
                sg_list=[self.memory.mr.sge(len(data), 0)],
                opcode=ib.WROpcode.SEND,
                send_flags=ib.SendFlags.SIGNALED,
            )
        )

    def settle(self, seconds=0.3):
        """Whatever comes of it, an answer or an error."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.cq.poll(16)
            time.sleep(0.01)

    def close(self):
        if self.cm.connected:
            self.cm.disconnect()
        for part in [self.memory, self.qp, self.cq, self.pd, self.cm]:
            part.close()


def rude(address, port, nqn):
    witness = connect(address, port, nqn, queue_depth=8)
    namespace = witness.namespace(1)
    with witness.allocate(4 * KIB) as buffer:
        for offence in [
            unknown_private_data,
            first_command_is_no_connect,
            capsules_of_wrong_length,
            silence_and_departure,
            answers_without_a_receive,
            keys_of_nobody,
            memory_that_is_gone,
        ]:
            say(f"rude: {offence.__name__}")
            offence(address, port, nqn)
            namespace.read(buffer, 0)
            namespace.write(buffer, 0)
    witness.close()
    say("was rude")


def greeting(qid=0, depth=32, controller_id=0, record_format=0):
    return struct.pack("<HHHHH22x", record_format, qid, depth, depth - 1, controller_id)


def unknown_private_data(address, port, _nqn):
    peer = Peer(address, port)
    try:
        peer.connect(greeting(record_format=1))
        raise AssertionError("a record format that nobody knows was accepted")
    except OSError:
        pass
    peer.close()
    # Whether these are refused is a matter of taste; they must do no harm.
    for strange in [
        b"",
        struct.pack("<HHHHH22x", 0, 0, 0, 0, 0),
        struct.pack("<HHHHH22x", 0, 0, 0xFFFF, 0xFFFF, 0),
        struct.pack("<HHHHH22x", 0, 0xFFFF, 32, 31, 0xFFFF),
        greeting(qid=1, controller_id=0xEEEE),
        b"\xff" * 32,
    ]:
        peer = Peer(address, port)
        try:
            peer.connect(strange)
            peer.settle()
        except OSError:
            pass
        peer.close()


def first_command_is_no_connect(address, port, _nqn):
    for qid, command in [
        (0, protocol.property_get(protocol.REG_CAP, 8)),
        (0, os.urandom(64)),
        (1, bytes(64)),
    ]:
        peer = Peer(address, port)
        peer.connect(greeting(qid=qid))
        peer.send(command)
        peer.settle()
        peer.close()


def capsules_of_wrong_length(address, port, _nqn):
    for length in [1, 63, 65, 64 + 9 * KIB, 128 * KIB]:
        peer = Peer(address, port)
        peer.connect(greeting())
        peer.send(os.urandom(length))
        peer.settle()
        peer.close()


def silence_and_departure(address, port, _nqn):
    for _ in range(5):
        peer = Peer(address, port)
        peer.connect(greeting())
        peer.close()


def answers_without_a_receive(address, port, nqn):
    peer = Peer(address, port, receives=0)
    peer.connect(greeting())
    host = uuid.uuid4()
    data = nvmeof.HostBuffer(peer.pd, KIB, ACCESS)
    data.write(protocol.connect_data(host, nqn, f"nqn.2014-08.org.nvmexpress:uuid:{host}", 0xFFFF))
    peer.send(protocol.fabrics_connect(0, 32, data))
    peer.settle()
    for _ in range(20):
        peer.send(protocol.property_get(protocol.REG_CAP, 8))
    peer.settle()
    data.close()
    peer.close()


def keys_of_nobody(address, port, nqn):
    """The key of a transfer is wrong: the queue may die of it, and nothing else."""
    for opcode in [protocol.OPC_READ, protocol.OPC_WRITE]:
        controller = connect(address, port, nqn, queue_depth=8)
        with controller.allocate(64 * KIB) as buffer:
            # Sound commands are under way beside it.
            for slba in range(4):
                controller.io.submit(rw(opcode, slba, buffer))
            wrong = bytearray(rw(opcode, 0, buffer))
            struct.pack_into("<I", wrong, 35, buffer.rkey ^ 0x5A5A00)
            ends_badly(controller, bytes(wrong))
        controller.close()


def memory_that_is_gone(address, port, nqn):
    controller = connect(address, port, nqn, queue_depth=8)
    buffer = controller.allocate(64 * KIB)
    command = rw(protocol.OPC_WRITE, 0, buffer)
    buffer.close()
    ends_badly(controller, command)
    controller.close()


def rw(opcode, slba, buffer):
    return protocol.rw_command(opcode, 1, slba, 8, buffer, lba_size=512)


def ends_badly(controller, command):
    try:
        controller.io.execute(command, timeout=3.0)
    except (OSError, TimeoutError, RuntimeError):
        # An error of the command, of the queue pair, or no answer any more.
        return
    raise AssertionError("a transfer without a valid key was done")


# --- silent


def silent(address, port):
    peer = Peer(address, port)
    peer.connect(greeting())
    say("silent")
    time.sleep(3600)


if __name__ == "__main__":
    {"use": use, "load": load, "rude": rude, "silent": silent}[sys.argv[1]](*sys.argv[2:])
