# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
#
# What `cmake --install` puts where. Both package files are relocatable.

include(CMakePackageConfigHelpers)

install(TARGETS transom EXPORT TransomTargets)
if(TARGET transom-keeper)
    install(TARGETS transom-keeper RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/transom)
endif()
if(TARGET transom-cli)
    install(TARGETS transom-cli)
endif()

file(GLOB public_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/transom/*.h)
install(FILES ${public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/transom)

foreach(section 1 3 7)
    file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.${section})
    install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Transom)
install(EXPORT TransomTargets NAMESPACE Transom:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/TransomConfig.cmake.in
    ${CMAKE_BINARY_DIR}/TransomConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/TransomConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/TransomConfig.cmake ${CMAKE_BINARY_DIR}/TransomConfigVersion.cmake
    DESTINATION ${package_dir})

file(RELATIVE_PATH pc_to_prefix
    ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/transom.pc.in ${CMAKE_BINARY_DIR}/transom.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/transom.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
