// swift-tools-version:6.2
import PackageDescription

let grenache = Target.Dependency.product(name: "Grenache", package: "grenache-swift")

let package = Package(
  name: "hello",
  dependencies: [
    .package(url: "https://github.com/tetherto/grenache-swift", branch: "main"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .executableTarget(
      name: "worker",
      dependencies: [
        grenache,
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ]),
    .executableTarget(name: "client", dependencies: [grenache]),
  ]
)
