// swift-tools-version:6.2
import PackageDescription

/// Tests are built without strict memory safety: what Swift Testing's macros expand to is not marked.
let testSettings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .treatAllWarnings(as: .error),
  .treatWarning("DeprecatedDeclaration", as: .warning),
]
let settings: [SwiftSetting] =
  testSettings + [
    .strictMemorySafety(),
    .treatWarning("ExplicitSendable", as: .error),  // every public type says whether it is Sendable
  ]

/// What the documentation shows is for packages without settings of their own.
let documented: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let coreMetrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let metricsTestKit = Target.Dependency.product(name: "MetricsTestKit", package: "swift-metrics")
let yaml = Target.Dependency.product(name: "Yams", package: "Yams")
let lifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals = Target.Dependency.product(
  name: "UnixSignals", package: "swift-service-lifecycle")

let package = Package(
  name: "grenache-swift",
  products: [
    .library(name: "Grenache", targets: ["Grenache"]),
    .library(name: "GrenacheGrape", targets: ["GrenacheGrape"]),
    .executable(name: "grape", targets: ["GrapeCommand"]),
    .executable(name: "grenache", targets: ["GrenacheCommand"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.3.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
  ],
  targets: [
    // The C edges: OpenSSL, zlib, and what Glibc's module map leaves out.
    .target(
      name: "COpenSSL", path: "COpenSSL",
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(name: "CZlib", linkerSettings: [.linkedLibrary("z")]),
    .target(name: "CGrenacheLinux"),
    .target(name: "CStandardStreams"),
    .systemLibrary(name: "CSQLite", providers: [.apt(["libsqlite3-dev"])]),

    // Pure: no input or output, no clock, no randomness of their own.
    .target(name: "GrenacheFraming", dependencies: ["CZlib"], swiftSettings: settings),
    .target(name: "GrenacheDHT", swiftSettings: settings),

    .target(name: "GrenacheTLS", dependencies: ["COpenSSL"], swiftSettings: settings),
    .target(name: "GrenacheIO", dependencies: ["CGrenacheLinux", deque], swiftSettings: settings),
    .target(
      name: "GrenacheTransport",
      dependencies: [
        "GrenacheTLS", "GrenacheFraming", "GrenacheIO", deque, logging, metrics, lifecycle,
      ],
      swiftSettings: settings),
    .target(
      name: "GrenacheAccess",
      dependencies: ["GrenacheTransport", "GrenacheTLS", "GrenacheIO", logging, yaml],
      swiftSettings: settings),
    .target(
      name: "GrenacheGrape",
      dependencies: [
        "GrenacheDHT", "GrenacheTransport", "GrenacheAccess", "GrenacheTLS", "GrenacheFraming",
        "GrenacheIO", "CSQLite", logging, metrics, coreMetrics, lifecycle,
      ],
      swiftSettings: settings),
    .target(
      name: "Grenache",
      dependencies: [
        "GrenacheTransport", "GrenacheAccess", "GrenacheTLS", "GrenacheFraming", "GrenacheIO",
        deque, logging, metrics, lifecycle,
      ],
      swiftSettings: settings),

    // The executables.
    .target(
      name: "GrenacheCommandSupport",
      dependencies: [
        "CStandardStreams", "GrenacheTransport", "GrenacheAccess", "GrenacheTLS", "GrenacheIO",
        argumentParser, logging, lifecycle, unixSignals,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "GrapeCommand",
      dependencies: [
        "GrenacheGrape", "GrenacheAccess", "GrenacheTransport", "GrenacheIO",
        "GrenacheCommandSupport", argumentParser, logging, metrics, lifecycle,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "GrenacheCommand",
      dependencies: [
        "Grenache", "GrenacheGrape", "GrenacheAccess", "GrenacheTransport", "GrenacheTLS",
        "GrenacheFraming", "GrenacheIO", "GrenacheCommandSupport", argumentParser, logging,
        lifecycle, unixSignals,
      ],
      swiftSettings: settings),

    .executableTarget(
      name: "CallBenchmark",
      dependencies: [
        "Grenache", "GrenacheGrape", "GrenacheTransport", "GrenacheTLS", "GrenacheFraming",
        "GrenacheIO", "PeerSimulation", "TestSupport", argumentParser, logging, lifecycle,
        unixSignals,
      ],
      path: "Benchmarks/CallBenchmark", swiftSettings: testSettings),
    .target(name: "CAllocationCount", path: "Benchmarks/CAllocationCount"),
    .executableTarget(
      name: "FramingBenchmark",
      dependencies: ["GrenacheFraming", "CAllocationCount", argumentParser],
      path: "Benchmarks/FramingBenchmark", swiftSettings: testSettings),
    .executableTarget(
      name: "GrapeBenchmark",
      dependencies: [
        "GrenacheGrape", "GrenacheTransport", "GrenacheTLS", "GrenacheFraming", "GrenacheIO",
        argumentParser, logging,
      ],
      path: "Benchmarks/GrapeBenchmark", swiftSettings: testSettings),
    .target(
      name: "DHTSimulation", dependencies: ["GrenacheDHT", "TestSupport"],
      path: "Benchmarks/DHTSimulation", swiftSettings: testSettings),
    .target(
      name: "PeerSimulation",
      dependencies: ["Grenache", "GrenacheTransport", "GrenacheIO", "TestSupport"],
      path: "Benchmarks/PeerSimulation", swiftSettings: testSettings),
    .executableTarget(
      name: "Simulate", dependencies: ["DHTSimulation", argumentParser],
      path: "Benchmarks/Simulate", swiftSettings: testSettings),
    .executableTarget(
      name: "HelloWorker", dependencies: ["Grenache", logging, lifecycle, unixSignals],
      path: "Examples/HelloWorker", swiftSettings: settings),
    .executableTarget(
      name: "HelloClient", dependencies: ["Grenache"], path: "Examples/HelloClient",
      swiftSettings: settings),
    .executableTarget(
      name: "PubSubExample", dependencies: ["Grenache"], path: "Examples/PubSubExample",
      swiftSettings: settings),
    .executableTarget(
      name: "StreamExample", dependencies: ["Grenache"], path: "Examples/StreamExample",
      swiftSettings: settings),
    .executableTarget(
      name: "MapExample", dependencies: ["Grenache"], path: "Examples/MapExample",
      swiftSettings: settings),
    .executableTarget(
      name: "ItemExample", dependencies: ["Grenache"], path: "Examples/ItemExample",
      swiftSettings: settings),
    .executableTarget(
      name: "AllowListExample", dependencies: ["Grenache"], path: "Examples/AllowListExample",
      exclude: ["policy.yaml"], swiftSettings: settings),

    // The package of the tutorial, with the settings of a new package.
    .executableTarget(
      name: "TutorialWorker", dependencies: ["Grenache", logging, lifecycle],
      path: "Examples/Tutorial/Sources/worker", swiftSettings: documented),
    .executableTarget(
      name: "TutorialClient", dependencies: ["Grenache"],
      path: "Examples/Tutorial/Sources/client", swiftSettings: documented),

    // The tests.
    .target(
      name: "TestSupport", dependencies: ["GrenacheTLS", logging], path: "Tests/TestSupport",
      swiftSettings: testSettings),
    .target(
      name: "ConformanceCases", dependencies: ["GrenacheFraming"], path: "Tests/ConformanceCases",
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheFramingTests",
      dependencies: ["GrenacheFraming", "ConformanceCases", "TestSupport"],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheDHTTests", dependencies: ["GrenacheDHT", "DHTSimulation", "TestSupport"],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheTLSTests", dependencies: ["GrenacheTLS", "COpenSSL", "TestSupport"],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheAccessTests",
      dependencies: ["GrenacheAccess", "GrenacheIO", "GrenacheTLS", "TestSupport", logging],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheIOTests", dependencies: ["GrenacheIO", "CGrenacheLinux", "TestSupport"],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheTransportTests",
      dependencies: [
        "GrenacheTransport", "GrenacheIO", "GrenacheTLS", "GrenacheFraming", "COpenSSL",
        "TestSupport", logging, "ConformanceCases", coreMetrics, metricsTestKit,
      ],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheGrapeTests",
      dependencies: [
        "GrapeCommand", "GrenacheGrape", "GrenacheDHT", "GrenacheTransport", "GrenacheAccess",
        "GrenacheFraming", "GrenacheIO", "GrenacheTLS", "TestSupport", argumentParser, logging,
        coreMetrics,
      ],
      swiftSettings: testSettings),
    .testTarget(
      name: "GrenacheTests",
      dependencies: [
        "Grenache", "GrenacheGrape", "GrenacheTransport", "GrenacheAccess", "GrenacheFraming",
        "GrenacheIO", "GrenacheTLS", "PeerSimulation", "TestSupport", logging, lifecycle,
      ],
      swiftSettings: testSettings),
    .target(
      name: "DocumentationSnippets", dependencies: ["Grenache", "GrenacheGrape"],
      path: "Tests/DocumentationSnippets", swiftSettings: documented),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "GrapeCommand", "GrenacheCommand", "GrenacheCommandSupport", "Grenache",
        "PubSubExample", "StreamExample", "MapExample", "ItemExample", "AllowListExample",
        "CallBenchmark", "HelloWorker", "HelloClient", "TutorialWorker", "TutorialClient",
        "DocumentationSnippets",
        logging, "GrenacheTransport", "GrenacheFraming", "GrenacheIO", "GrenacheTLS",
        "TestSupport",
      ],
      swiftSettings: testSettings),
  ],
  cLanguageStandard: .c11
)

// The fuzzer needs flags of its own for the whole build; scripts/fuzz.sh sets the variable and a folder.
// In every other build what it feeds is fed by tests.
let fuzzed: [Target.Dependency] = [
  "Grenache", "GrenacheAccess", "GrenacheDHT", "GrenacheFraming", "GrenacheGrape", "GrenacheTLS",
]
if Context.environment["GRENACHE_FUZZ"] == "1" {
  package.targets.append(
    .executableTarget(
      name: "FramerFuzz", dependencies: fuzzed, path: "Tests/Fuzz/FramerFuzz",
      swiftSettings: testSettings + [.unsafeFlags(["-parse-as-library"])]))
} else {
  package.targets.append(
    .testTarget(
      name: "FuzzTests", dependencies: fuzzed + ["TestSupport"], path: "Tests/Fuzz",
      exclude: ["Seeds", "FramerFuzz/LibFuzzer.swift"], swiftSettings: testSettings))
}
