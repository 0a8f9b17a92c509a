"""The kernels that compute each op, for select-kernels: functions that add them to a program."""
