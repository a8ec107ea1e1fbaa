"""What turns streams into work for a device, and a device's answers into events."""
