"""When Envoy refuses what it could not hold: too many connections, the end of the memory."""

from serving.envoy.parts import Config, duration, typed

HEAP_SHARE = 0.9
"""Of the memory that there is: near it, first the greediest streams and then new calls are refused."""


def overload_manager(*, max_connections: int, memory_bytes: float) -> Config:
    """More connections than allowed are closed at once; near the end of the memory, new calls are refused.

    What Envoy counts is what the whole process has allocated; where Python is inside, models and its objects too.
    """
    max_heap_bytes = int(HEAP_SHARE * memory_bytes)
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    return {
        "refresh_interval": duration(0.25),
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            typed(heap, "resource_monitors.fixed_heap.v3.FixedHeapConfig", {"max_heap_size_bytes": max_heap_bytes}),
            typed(
                connections,
                "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                {"max_active_downstream_connections": max_connections},
            ),
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [
                    {"name": heap, "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}},
                ],
            },
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": heap, "threshold": {"value": 0.95}}],
            },
        ],
    }
