"""Ray and the machine: devices, and the access to both."""
