"""How calls arrive: one file a transport, each turning its calls into `serving.call.Call`."""
