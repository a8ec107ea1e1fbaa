from __future__ import annotations

import grpc_testing

from parley.clients.pacing import paced, piece_bytes

BEGAN = 100.0


def test_pieces_come_when_their_last_byte_has_been_spoken() -> None:
    time = grpc_testing.strict_fake_time(BEGAN)
    pieces = paced([b"1234", b"12", b"1234"], bytes_per_s=4, clock=time.time, sleep=time.sleep_for)
    assert [(piece, time.time() - BEGAN) for piece in pieces] == [(b"1234", 1.0), (b"12", 1.5), (b"1234", 2.5)]


def test_late_pieces_do_not_delay_those_after_them() -> None:
    time = grpc_testing.strict_fake_time(BEGAN)

    def oversleep(seconds: float) -> None:
        time.sleep_for(seconds + 0.25)

    times = [time.time() - BEGAN for _ in paced([b"1"] * 100, bytes_per_s=1, clock=time.time, sleep=oversleep)]
    assert times == [number + 1.25 for number in range(100)]


def test_who_is_behind_does_not_wait() -> None:
    time = grpc_testing.strict_fake_time(BEGAN)
    times = []
    for _ in paced([b"1"] * 4, bytes_per_s=1, clock=time.time, sleep=time.sleep_for):
        times.append(time.time() - BEGAN)
        time.sleep_for(2.5 if len(times) == 1 else 0)
    assert times == [1.0, 3.5, 3.5, 4.0]


def test_pieces_hold_whole_frames() -> None:
    assert piece_bytes(32_000, 0.1) == 3200
    assert piece_bytes(44_100, 0.1, frame_bytes=4) == 4408
    assert piece_bytes(1, 0.001) == 1
    assert piece_bytes(1, 0.001, frame_bytes=4) == 4
