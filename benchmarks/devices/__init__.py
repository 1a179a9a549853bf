"""GPUs of a machine: the driver's facts, the choice by CUDA_VISIBLE_DEVICES, and the builds of torch that run there."""
