"""A device's name and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.device import CPU, Device, DeviceKind

INDICES = st.integers(0, 9_999)
DEVICES = st.one_of(
    st.just(CPU),
    st.builds(Device, st.just(DeviceKind.CPU), INDICES),
    st.builds(Device, st.just(DeviceKind.CUDA), INDICES),
)


def parsed(text: str) -> Device | None:
    try:
        return Device.parse(text)
    except ValueError:
        return None


@given(DEVICES)
def test_a_device_is_read_as_it_is_written(device: Device) -> None:
    assert Device.parse(str(device)) == device


@given(st.one_of(st.text(max_size=10), st.from_regex(r"(cpu|cuda)[:,.]?[0-9]{0,5}", fullmatch=True)))
def test_a_name_is_that_of_one_device_or_of_none(text: str) -> None:
    device = parsed(text)
    assert device is None or str(device) == text


@pytest.mark.parametrize(
    "text", ["", "auto", "CPU", "cpu:", "cuda", "cuda:-1", "cuda:01", "cuda:10000", "cuda:0\n", "tpu:0"]
)
def test_what_names_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Device.parse(text)
    assert str(caught.value) == f'got {text!r}, expected "cpu", "cpu:N" or "cuda:N", with N from 0 to 9999'


@given(DEVICES)
def test_shares_of_the_cpu_are_all_in_one_place_and_a_card_is_its_own(device: Device) -> None:
    assert device.place == (CPU if device.on_cpu else device)
    assert device.place.place == device.place
    assert device.on_cpu == str(device).startswith("cpu")
