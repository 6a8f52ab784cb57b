"""What Envoy is told and asked, by the transport that has Python inside it and by the door before several servers."""
