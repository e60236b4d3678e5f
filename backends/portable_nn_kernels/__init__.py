"""What the device backends share: plans, kernel text, tuned sizes and the road from a call to its launches."""
