"""DeepSpeed configurations (`stage0.json` to `stage3.json`) and how their "auto" values are filled."""
