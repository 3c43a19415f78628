"""The loop: trigger, training, gate, roll-out. One duty drives it; what lies outside the monitor comes in as ports."""
