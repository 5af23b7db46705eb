"""Policies as files that run without the lab: ONNX or TorchScript, smaller ones, their measurements and a card.

A policy becomes one torch module from flat inputs to actions (`acting`), which `onnx_file` and `torch_file` write and
run again. What trains, evaluates or films policies isn't here.
"""
